//! What a node sent to addresses that have not proven that they receive, and what it had from them.
//!
//! Owns one account per address, for one start of a node. An address is proven once a handshake with
//! it finished, or a challenge was answered from there; until then, what is sent to it in answer must never exceed what came
//! from it, or three times that within a session. A hello answers nothing: the address it goes to was given by the node's own application.

use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Byte 0 of a HELLO.
const HELLO: u8 = 0x01;

/// Byte 0 of a lane's datagram, without the key phase.
const LANE: u8 = 0x40;
/// Bytes to an unproven address within a session for each that came from there (RFC 9000 section 8.1).
const AMPLIFICATION_MAX: u64 = 3;

/// The accounts of one start.
#[derive(Default, Debug)]
pub struct Addresses {
    accounts: BTreeMap<SocketAddr, Account>,
}

#[derive(Clone, Copy, Default, Debug)]
struct Account {
    received: u64,
    sent: u64,
    is_proven: bool,
}

impl Addresses {
    /// A datagram came.
    pub fn received(&mut self, from: SocketAddr, bytes: usize) {
        self.accounts.entry(from).or_default().received += bytes as u64;
    }

    /// The datagram that just came from this address ended a handshake.
    pub fn proven(&mut self, from: SocketAddr) {
        self.accounts.entry(from).or_default().is_proven = true;
    }

    /// A datagram left.
    ///
    /// # Errors
    ///
    /// More went to an unproven address than what came from it allows.
    pub fn sent(&mut self, to: SocketAddr, datagram: &[u8]) -> Result<(), String> {
        let account = self.accounts.entry(to).or_default();
        if account.is_proven || datagram.first() == Some(&HELLO) {
            return Ok(());
        }
        account.sent += datagram.len() as u64;
        let is_lane = datagram.first().is_some_and(|kind| kind & !1 == LANE);
        if account.sent <= account.received * if is_lane { AMPLIFICATION_MAX } else { 1 } {
            return Ok(());
        }
        let Account { sent, received, .. } = account;
        let kind = datagram.first().copied().unwrap_or_default();
        Err(format!("{sent} bytes to {to}, unproven, for {received}; the last of kind {kind:#x}"))
    }

    /// Bytes received from and sent to an address while it was unproven.
    pub fn account(&self, address: SocketAddr) -> (u64, u64) {
        self.accounts.get(&address).map_or((0, 0), |account| (account.received, account.sent))
    }
}

#[cfg(test)]
mod tests {
    //! Goal: an answer longer than what was asked is seen, and nothing else is blamed.
    use super::*;

    #[test]
    fn more_than_was_received_is_seen_until_the_address_is_proven() {
        let address = "10.0.0.1:7530".parse().unwrap();
        let mut addresses = Addresses::default();
        assert!(addresses.sent(address, &[HELLO; 1_200]).is_ok());
        assert!(addresses.sent(address, &[0x02]).is_err());
        addresses.received(address, 100);
        assert!(addresses.sent(address, &[0x02; 99]).is_ok());
        assert!(addresses.sent(address, &[0x02]).is_err());
        assert!(addresses.sent(address, &[LANE; 199]).is_ok());
        assert!(addresses.sent(address, &[LANE; 1]).is_err());
        addresses.proven(address);
        assert!(addresses.sent(address, &[0x02; 9_000]).is_ok());
        assert_eq!(addresses.account(address), (100, 301));
    }
}
