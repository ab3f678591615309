//! quinn's datagrams (RFC 9221): encrypted, paced by congestion control, never sent again. A datagram that finds the receiver's
//! buffer full is dropped there.
//!
//! Each message is one datagram. The sender waits while the connection's send buffer is full, so that it drops nothing of its own,
//! and repeats the last message until the receiver has it. An answer that stays away for [`PATIENCE`] counts as lost, and the next
//! question follows.

use std::time::Duration;

use bytes::Bytes;
use cubed_peers::{
    load::{Exchange, Load, Meter, is_last},
    stack::{Outcome, Ready, Sides},
};
use quinn::{Connection, ConnectionError};
use tokio::time::timeout;

use crate::quic::{accept, connect, run};

/// The longest wait for an answer.
const PATIENCE: Duration = Duration::from_millis(100);
/// Time between two copies of the last message.
const REPEAT: Duration = Duration::from_millis(5);

/// QUIC datagrams as quinn does them.
#[derive(Debug)]
pub(crate) struct Datagrams;

impl Sides for Datagrams {
    fn receive(&self, ready: Ready<'_>, meter: &mut Meter) -> Outcome<()> {
        run(async {
            let (endpoint, connection) = accept(ready).await?;
            while meter.take(&connection.read_datagram().await?) {}
            connection.close(0_u32.into(), b"");
            endpoint.wait_idle().await;
            Ok(())
        })
    }

    fn send(&self, address: &str, load: &mut Load) -> Outcome<()> {
        run(async {
            let (_endpoint, connection) = connect(address).await?;
            let mut body = vec![0; load.size()];
            while load.fill(&mut body) {
                connection.send_datagram_wait(Bytes::copy_from_slice(&body)).await?;
            }
            while timeout(REPEAT, connection.closed()).await.is_err() {
                repeat(&connection, &body).await?;
            }
            Ok(())
        })
    }

    fn answer(&self, ready: Ready<'_>) -> Outcome<()> {
        run(async {
            let (_endpoint, connection) = accept(ready).await?;
            let mut has_ended = false;
            loop {
                let body = match connection.read_datagram().await {
                    // The asker closes when it has the last answer.
                    Err(ConnectionError::ApplicationClosed(_)) if has_ended => return Ok(()),
                    body => body?,
                };
                has_ended |= is_last(&body);
                connection.send_datagram(body)?;
            }
        })
    }

    fn ask(&self, address: &str, exchange: &mut Exchange) -> Outcome<()> {
        run(async {
            let (endpoint, connection) = connect(address).await?;
            let mut body = vec![0; exchange.size()];
            while exchange.ask(&mut body) {
                connection.send_datagram(Bytes::copy_from_slice(&body))?;
                // An answer that is late is not the one to this question.
                while let Ok(answer) = timeout(PATIENCE, connection.read_datagram()).await {
                    let answer = answer?;
                    if answer[..8] == body[..8] {
                        exchange.answered(&answer);
                        break;
                    }
                }
            }
            connection.close(0_u32.into(), b"");
            endpoint.wait_idle().await;
            Ok(())
        })
    }
}

/// Sends the last message again, unless the receiver has it and closed.
async fn repeat(connection: &Connection, body: &[u8]) -> Outcome<()> {
    match connection.send_datagram_wait(Bytes::copy_from_slice(body)).await {
        Ok(()) | Err(quinn::SendDatagramError::ConnectionLost(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
