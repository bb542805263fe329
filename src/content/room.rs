//! Memory that a file is read into.

use std::{
    mem,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::{Bytes, BytesMut};

/// Room for some bytes.
#[derive(Debug)]
pub(super) enum Room {
    Own(BytesMut),
    Large(LargeRoom),
}

impl Room {
    /// Room for `count` bytes: where others were before, if there is enough, as that is at hand for the
    /// processor.
    pub(super) fn own(count: usize, before: Option<BytesMut>) -> Self {
        match before {
            Some(mut gone) if gone.len() >= count => {
                gone.truncate(count);
                Self::Own(gone)
            }
            _ => Self::Own(BytesMut::zeroed(count)),
        }
    }

    pub(super) fn truncate(&mut self, count: usize) {
        match self {
            Self::Own(bytes) => bytes.truncate(count),
            Self::Large(room) => room.count = room.count.min(count),
        }
    }

    pub(super) fn freeze(self) -> Bytes {
        match self {
            Self::Own(bytes) => bytes.freeze(),
            Self::Large(room) => Bytes::from_owner(room),
        }
    }
}

impl Deref for Room {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Large(room) => room.as_ref(),
        }
    }
}

impl DerefMut for Room {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Large(room) => &mut room.bytes[..room.count],
        }
    }
}

/// Large rooms, of which there are few. They are made when they are first needed, and kept.
#[derive(Debug)]
pub(super) struct LargeRooms {
    free: Mutex<Free>,
    bytes: usize,
}

#[derive(Debug)]
struct Free {
    /// The one that was left last is taken first.
    rooms: Vec<Box<[u8]>>,
    not_made: usize,
}

impl LargeRooms {
    /// At most `rooms_max` of `bytes` each.
    pub(super) fn new(rooms_max: usize, bytes: usize) -> Self {
        let free = Free {
            rooms: Vec::with_capacity(rooms_max),
            not_made: rooms_max,
        };
        Self {
            free: Mutex::new(free),
            bytes,
        }
    }

    /// One with room for `count` bytes, or as many as fit; `None` while all are in use. It is free again
    /// when the last of the bytes that are read into it are dropped.
    pub(super) fn take(self: &Arc<Self>, count: usize) -> Option<LargeRoom> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = match free.rooms.pop() {
            Some(bytes) => bytes,
            None => {
                free.not_made = free.not_made.checked_sub(1)?;
                drop(free);
                vec![0; self.bytes].into_boxed_slice()
            }
        };
        Some(LargeRoom {
            count: count.min(self.bytes),
            bytes,
            rooms: Arc::clone(self),
        })
    }
}

/// One of the large rooms, in use.
#[derive(Debug)]
pub(super) struct LargeRoom {
    bytes: Box<[u8]>,
    count: usize,
    rooms: Arc<LargeRooms>,
}

impl AsRef<[u8]> for LargeRoom {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.count]
    }
}

impl Drop for LargeRoom {
    fn drop(&mut self) {
        let mut free = self
            .rooms
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        free.rooms.push(mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_so_many_large_rooms_and_each_is_free_when_its_bytes_are_gone() {
        let rooms = Arc::new(LargeRooms::new(2, 1000));
        let fill = |byte| {
            let mut room = Room::Large(rooms.take(800)?);
            room.fill(byte);
            room.truncate(700);
            Some(room.freeze())
        };
        let (one, two) = (fill(1).expect("a room"), fill(2).expect("a room"));
        assert!(fill(3).is_none());
        let part = one.slice(699..);
        drop(one);
        assert!(fill(3).is_none());
        drop(part);
        let three = fill(3).expect("a room");
        assert!(fill(4).is_none());
        assert_eq!((&*two, &*three), (&[2; 700][..], &[3; 700][..]));
    }

    #[test]
    fn what_lies_in_large_rooms_is_no_longer_than_they_are() {
        let rooms = Arc::new(LargeRooms::new(1, 1000));
        assert_eq!(Room::Large(rooms.take(5000).expect("a room")).len(), 1000);
    }

    #[test]
    fn room_of_ones_own_is_used_again_where_there_is_enough() {
        let before = Room::own(1000, None).freeze();
        let at = before.as_ptr();
        let room = Room::own(900, before.try_into_mut().ok());
        assert_eq!((room.as_ptr(), room.len()), (at, 900));
        let room = Room::own(1000, room.freeze().try_into_mut().ok());
        assert_eq!(room.len(), 1000);
    }
}
