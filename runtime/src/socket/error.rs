//! Why a UDP socket could not be made, in words that say what to do.

use std::fmt;
use std::io;
use std::net::SocketAddr;

/// Binding a UDP socket failed.
#[derive(Debug)]
pub enum BindError {
    /// Another socket holds the address.
    AddressInUse {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The address belongs to no interface of this host.
    AddressNotAvailable {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The process may not bind there (ports under 1,024 need a privilege).
    PermissionDenied {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The host has no such address family (IPv6 switched off, say).
    FamilyNotSupported {
        /// The address asked for.
        address: SocketAddr,
    },
    /// No file descriptor is left for a socket.
    NoDescriptors {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The kernel refused an option that this crate cannot work without.
    OptionRefused {
        /// The option's name in `setsockopt`.
        option: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// Anything else.
    System {
        /// The address asked for.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
}

impl BindError {
    /// Sorts the error of `socket` or `bind` for `address`.
    pub(crate) fn new(address: SocketAddr, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EADDRINUSE) => Self::AddressInUse { address },
            Some(libc::EADDRNOTAVAIL) => Self::AddressNotAvailable { address },
            Some(libc::EACCES | libc::EPERM) => Self::PermissionDenied { address },
            Some(libc::EAFNOSUPPORT) => Self::FamilyNotSupported { address },
            Some(libc::EMFILE | libc::ENFILE) => Self::NoDescriptors { address },
            _ => Self::System { address, source },
        }
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddressInUse { address } => write!(
                f,
                "UDP address {address} is in use by another process: choose another port, or \
                 stop the process that holds it (ss -ulpn shows it)"
            ),
            Self::AddressNotAvailable { address } => write!(
                f,
                "address {} is not available on this host: listen on one of its own addresses, \
                 or on 0.0.0.0 or [::] for all of them",
                address.ip()
            ),
            Self::PermissionDenied { address } => write!(
                f,
                "no permission to bind UDP address {address}: choose a port of 1024 or above, or \
                 grant CAP_NET_BIND_SERVICE"
            ),
            Self::FamilyNotSupported { address } => write!(
                f,
                "this host has no {}: listen on an address of the other family instead of \
                 {address}",
                if address.is_ipv4() { "IPv4" } else { "IPv6" }
            ),
            Self::NoDescriptors { address } => write!(
                f,
                "no file descriptor is left to listen on {address}: raise the limit (`ulimit -n`) \
                 or close some"
            ),
            Self::OptionRefused { option, source } => write!(
                f,
                "the kernel refused the socket option {option} ({source}): Linux 5.19 or later is \
                 needed"
            ),
            Self::System { address, source } => {
                write!(f, "cannot bind UDP address {address}: {source}")
            }
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::OptionRefused { source, .. } | Self::System { source, .. } => Some(source),
            _ => None,
        }
    }
}
