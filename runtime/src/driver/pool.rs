//! The receive buffers that a ring fills: one mapping, and who owns which buffer when.
//!
//! Layout: a page of ring entries, then the buffers. A buffer belongs to the *kernel* from
//! [`BufferPool::give`] until a completion names it, and to *us* from then until it is given again. Always
//! holds: given = taken + capacity, so between two turns all buffers are the kernel's.

use std::io;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use crate::buffers::RECV_BUFFER_BYTES;

const PAGE_BYTES: usize = 4_096;

/// Most buffers of one pool; their entries have to fit the first page.
pub(crate) const POOL_BUFFERS_MAX: u16 = 256;

const _: () = assert!(POOL_BUFFERS_MAX as usize * size_of::<BufRingEntry>() <= PAGE_BYTES);
const _: () = assert!(size_of::<BufRingEntry>() == 16);

/// Receive buffers shared with the kernel. Holding one proves that the mapping is alive.
///
/// The keeper of its promises is the driver: it unregisters the pool from the ring before dropping
/// it, and touches a buffer only between the completion that names it and giving it again.
#[derive(Debug)]
pub(crate) struct BufferPool {
    base: NonNull<u8>,
    mapped_bytes: usize,
    capacity: u16,
    tail: u16,
    taken: u64,
    given: u64,
    leaked: bool,
}

impl BufferPool {
    /// Maps `capacity` buffers (a power of two, at most [`POOL_BUFFERS_MAX`]), all ours at first.
    pub(crate) fn new(capacity: u16) -> io::Result<Self> {
        assert!(capacity.is_power_of_two() && capacity <= POOL_BUFFERS_MAX);
        let mapped_bytes = PAGE_BYTES + capacity as usize * RECV_BUFFER_BYTES;
        // SAFETY: an anonymous private mapping at an address of the kernel's choosing overlaps
        // nothing; the result is checked below.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                mapped_bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base =
            NonNull::new(base.cast()).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        Ok(Self { base, mapped_bytes, capacity, tail: 0, taken: 0, given: 0, leaked: false })
    }

    /// Address of the ring of entries, page aligned, for registration.
    pub(crate) fn entries_address(&self) -> u64 {
        self.base.as_ptr() as u64
    }

    /// The ring of entries: the mapping begins with it, so it is aligned to a page.
    #[allow(clippy::cast_ptr_alignment)]
    fn entries(&self) -> *mut BufRingEntry {
        self.base.as_ptr().cast()
    }

    /// Keeps the mapping for ever, for the case that the kernel may still write to it.
    pub(crate) fn leak(&mut self) {
        self.leaked = true;
    }

    /// Buffers in this pool.
    pub(crate) fn capacity(&self) -> u16 {
        self.capacity
    }

    /// Hands every buffer to the kernel; called once, after registration.
    pub(crate) fn give_all(&mut self) {
        for index in 0..self.capacity {
            self.give(index);
        }
    }

    /// Takes the buffer that a completion named; `None` if the kernel named one that does not exist.
    pub(crate) fn take(&mut self, index: u16) -> Option<&mut [u8]> {
        if index >= self.capacity {
            return None;
        }
        self.taken += 1;
        debug_assert!(self.taken + self.capacity as u64 >= self.given, "a buffer was given twice");
        // SAFETY: the offset lies inside the mapping (index < capacity), whose bytes are initialised
        // (zero at first). The completion made the buffer ours until `give`, so the kernel does not
        // write it; the borrow of `self` keeps us from giving it or making a second slice meanwhile.
        let buffer = unsafe {
            slice::from_raw_parts_mut(self.base.as_ptr().add(offset(index)), RECV_BUFFER_BYTES)
        };
        Some(buffer)
    }

    /// Gives a buffer of ours to the kernel, to be filled again.
    pub(crate) fn give(&mut self, index: u16) {
        debug_assert!(index < self.capacity);
        let slot = (self.tail & (self.capacity - 1)) as usize;
        let entries = self.entries();
        // SAFETY: slot < capacity, so the entry lies in the first page, aligned (page + 16 * slot).
        // The kernel reads entries below the tail only, and this one becomes visible with the store
        // below. Slot 0 holds the tail in its last two bytes, which the three setters leave alone.
        unsafe {
            let entry = &mut *entries.add(slot);
            entry.set_addr(self.base.as_ptr() as u64 + offset(index) as u64);
            entry.set_len(RECV_BUFFER_BYTES as u32);
            entry.set_bid(index);
        }
        self.tail = self.tail.wrapping_add(1);
        self.given += 1;
        // SAFETY: the tail is a u16 inside the first entry, aligned and alive as the mapping is; the
        // kernel reads it at any time, hence the atomic.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(entries).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    /// Buffers that completions have named so far.
    pub(crate) fn lent(&self) -> u64 {
        self.taken
    }

    /// Buffers given back so far; equal to [`BufferPool::lent`] between two turns.
    pub(crate) fn returned(&self) -> u64 {
        self.given.saturating_sub(self.capacity as u64)
    }
}

impl Drop for BufferPool {
    fn drop(&mut self) {
        if self.leaked {
            return;
        }
        // SAFETY: base and length are those of the mapping made in `new`; no slice of it can be alive
        // (they borrow `self`), and the driver has unregistered the pool, so the kernel writes no more.
        let result = unsafe { libc::munmap(self.base.as_ptr().cast(), self.mapped_bytes) };
        debug_assert_eq!(result, 0, "the mapping was ours");
    }
}

fn offset(index: u16) -> usize {
    PAGE_BYTES + index as usize * RECV_BUFFER_BYTES
}

#[cfg(test)]
mod tests {
    use super::BufferPool;
    use crate::buffers::RECV_BUFFER_BYTES;

    #[test]
    fn lent_equals_returned_once_every_buffer_went_round() {
        let mut pool = BufferPool::new(4).expect("memory");
        pool.give_all();
        assert_eq!((pool.lent(), pool.returned()), (0, 0));
        for index in 0..4 {
            let buffer = pool.take(index).expect("a buffer");
            assert_eq!(buffer.len(), RECV_BUFFER_BYTES);
            buffer.fill(index as u8 + 1);
        }
        assert_eq!((pool.lent(), pool.returned()), (4, 0));
        for index in 0..4 {
            pool.give(index);
        }
        assert_eq!((pool.lent(), pool.returned()), (4, 4));
        // Neighbours did not overwrite each other.
        for index in 0..4 {
            assert!(
                pool.take(index).expect("a buffer").iter().all(|byte| *byte == index as u8 + 1)
            );
        }
    }

    #[test]
    fn a_buffer_that_does_not_exist_is_refused() {
        let mut pool = BufferPool::new(4).expect("memory");
        pool.give_all();
        assert!(pool.take(4).is_none());
    }
}
