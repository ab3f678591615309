//! quinn: one stream, frames written as for plain TCP, options as they come; each process one thread with tokio.

use std::{future::Future, net::SocketAddr, sync::Arc};

use cubed_peers::{
    load::{Exchange, Load, Meter, is_last},
    stack::{Outcome, Ready, Sides},
};
use quinn::{ClientConfig, Connection, Endpoint, RecvStream, ServerConfig};
use rustls::{RootCertStore, pki_types::PrivatePkcs8KeyDer};

use crate::{
    frames::{Batch, Frames, HEADER_BYTES, header},
    text,
};

const NAME: &str = "localhost";

/// QUIC as quinn does it.
#[derive(Debug)]
pub(crate) struct Quic;

impl Sides for Quic {
    fn receive(&self, ready: Ready<'_>, meter: &mut Meter) -> Outcome<()> {
        run(async {
            let (endpoint, connection) = accept(ready).await?;
            let mut stream = connection.accept_uni().await?;
            let mut frames = Frames::new();
            while meter.take(next(&mut frames, &mut stream).await?) {}
            connection.close(0_u32.into(), b"");
            endpoint.wait_idle().await;
            Ok(())
        })
    }

    fn send(&self, address: &str, load: &mut Load) -> Outcome<()> {
        run(async {
            let (_endpoint, connection) = connect(address).await?;
            let mut stream = connection.open_uni().await?;
            let mut batch = Batch::new(load.size());
            loop {
                let frames = batch.next(load);
                if frames.is_empty() {
                    break;
                }
                stream.write_all(frames).await?;
            }
            // The receiver closes when it has the last message.
            connection.closed().await;
            Ok(())
        })
    }

    fn answer(&self, ready: Ready<'_>) -> Outcome<()> {
        run(async {
            let (_endpoint, connection) = accept(ready).await?;
            let (mut writer, mut reader) = connection.accept_bi().await?;
            let (mut frames, mut frame) = (Frames::new(), Vec::new());
            loop {
                let body = next(&mut frames, &mut reader).await?;
                frame.clear();
                frame.extend_from_slice(&header(body.len()));
                frame.extend_from_slice(body);
                writer.write_all(&frame).await?;
                if is_last(body) {
                    // The asker closes when it has the last answer.
                    connection.closed().await;
                    return Ok(());
                }
            }
        })
    }

    fn ask(&self, address: &str, exchange: &mut Exchange) -> Outcome<()> {
        run(async {
            let (endpoint, connection) = connect(address).await?;
            let (mut writer, mut reader) = connection.open_bi().await?;
            let mut frames = Frames::new();
            let mut frame = vec![0; HEADER_BYTES + exchange.size()];
            frame[..HEADER_BYTES].copy_from_slice(&header(exchange.size()));
            while exchange.ask(&mut frame[HEADER_BYTES..]) {
                writer.write_all(&frame).await?;
                exchange.answered(next(&mut frames, &mut reader).await?);
            }
            connection.close(0_u32.into(), b"");
            endpoint.wait_idle().await;
            Ok(())
        })
    }
}

/// Runs one side on this thread.
pub(crate) fn run(side: impl Future<Output = Outcome<()>>) -> Outcome<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(side)
}

/// Listens with a fresh certificate, which is part of the address, and takes one connection.
pub(crate) async fn accept(ready: Ready<'_>) -> Outcome<(Endpoint, Connection)> {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
    let certificate = made.cert.der().clone();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = ServerConfig::with_single_cert(vec![certificate.clone()], key.into())?;
    let endpoint = Endpoint::server(config, SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let hex = text::to_hex(&certificate);
    ready(&format!("{};{hex}", endpoint.local_addr()?));
    let connection = endpoint.accept().await.ok_or("the endpoint was closed")?.await?;
    Ok((endpoint, connection))
}

/// Connects to an address that [`accept`] told.
pub(crate) async fn connect(address: &str) -> Outcome<(Endpoint, Connection)> {
    let (address, hex) = address.split_once(';').ok_or("an address without a certificate")?;
    let certificate = text::from_hex(hex)?;
    let mut roots = RootCertStore::empty();
    roots.add(certificate.into())?;
    let mut endpoint = Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    endpoint.set_default_client_config(ClientConfig::with_root_certificates(Arc::new(roots))?);
    let connection = endpoint.connect(address.parse()?, NAME)?.await?;
    Ok((endpoint, connection))
}

/// The body of the next frame.
async fn next<'a>(frames: &'a mut Frames, stream: &mut RecvStream) -> Outcome<&'a [u8]> {
    while !frames.has_next()? {
        let read = stream.read(frames.space()).await?;
        frames.filled(read.unwrap_or_default())?;
    }
    Ok(frames.next())
}
