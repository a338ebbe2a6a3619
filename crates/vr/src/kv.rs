//! A key-value store: the example of a service.
//!
//! What it says of a value is an outcome and the value, or the value and a place: fewer bytes than the operation
//! that brought it and a place, so no result is longer than [`RESULT_BYTES_MAX`](crate::RESULT_BYTES_MAX).

use crate::{Operation, Service};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 1_024;

/// What changes the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// The key has this value; none removes it.
    Put(Bytes, Option<Bytes>),
    /// The key has the second value, if it had the first.
    CompareAndSet(Bytes, Option<Bytes>, Option<Bytes>),
}

/// What becomes of a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Changed {
    /// It is made. The value before.
    Done(Option<Bytes>),
    /// The key has another value: this one.
    Differs(Option<Bytes>),
    /// It is none, or its key is too long.
    Malformed,
}

/// A question's answer: the key's value, and the place of the entry that put it there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// None if the key has none.
    pub value: Option<Bytes>,
    /// 0 if the key has none.
    pub op: u64,
}

/// Keys and their values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyValue {
    values: BTreeMap<Bytes, (Bytes, u64)>,
}

impl Change {
    /// As an operation's body.
    pub fn encode(&self) -> Bytes {
        postcard::to_stdvec(self).expect("a change can be encoded").into()
    }
}

impl Changed {
    /// From an operation's result.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }
}

impl Found {
    /// From a question's answer.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }
}

impl KeyValue {
    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Found {
        match self.values.get(key) {
            Some((value, op)) => Found { value: Some(value.clone()), op: *op },
            None => Found::default(),
        }
    }

    fn change(&mut self, op: u64, body: &[u8]) -> Changed {
        let Ok(change) = postcard::from_bytes::<Change>(body) else { return Changed::Malformed };
        let (Change::Put(key, _) | Change::CompareAndSet(key, ..)) = &change;
        if key.len() > KEY_BYTES_MAX {
            return Changed::Malformed;
        }
        let before = self.get(key).value;
        let (key, value) = match change {
            Change::Put(key, value) => (key, value),
            Change::CompareAndSet(_, expected, _) if expected != before => {
                return Changed::Differs(before);
            }
            Change::CompareAndSet(key, _, value) => (key, value),
        };
        match value {
            Some(value) => self.values.insert(key, (value, op)),
            None => self.values.remove(&key),
        };
        Changed::Done(before)
    }
}

impl Service for KeyValue {
    fn execute(&mut self, operation: &Operation<'_>) -> Bytes {
        let changed = self.change(operation.op, operation.body);
        postcard::to_stdvec(&changed).expect("an outcome can be encoded").into()
    }

    fn read(&self, question: &[u8]) -> Bytes {
        postcard::to_stdvec(&self.get(question)).expect("a value can be encoded").into()
    }

    fn snapshot(&self) -> Bytes {
        postcard::to_stdvec(self).expect("a store can be encoded").into()
    }

    fn restore(&mut self, snapshot: &Bytes) -> bool {
        let restored = postcard::from_bytes(snapshot);
        restored.map(|restored| *self = restored).is_ok()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::{ClientId, OPERATION_BYTES_MAX, RESULT_BYTES_MAX};

    fn execute(store: &mut KeyValue, op: u64, body: &[u8]) -> Changed {
        let operation = Operation { op, time_ms: 0, client: ClientId(1), body };
        Changed::decode(&store.execute(&operation)).unwrap()
    }

    fn bytes(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn the_largest_value_fits_into_results_and_answers() {
        let put = |bytes: usize| Change::Put(Bytes::new(), Some(vec![7; bytes].into())).encode();
        let overhead = put(OPERATION_BYTES_MAX).len() - OPERATION_BYTES_MAX;
        let largest = put(OPERATION_BYTES_MAX - overhead);
        assert_eq!(largest.len(), OPERATION_BYTES_MAX);
        let mut store = KeyValue::default();
        let differs = Change::CompareAndSet(Bytes::new(), None, None).encode();
        for body in [&largest, &largest, &differs] {
            let operation = Operation { op: u64::MAX, time_ms: 0, client: ClientId(1), body };
            let result = store.execute(&operation);
            assert!(result.len() <= RESULT_BYTES_MAX, "{}", result.len());
        }
        let answer = store.read(b"");
        assert!(answer.len() > OPERATION_BYTES_MAX, "a place is longer than the rest of a put");
        assert!(answer.len() <= RESULT_BYTES_MAX, "{}", answer.len());
    }

    #[test]
    fn values_are_put_compared_removed_and_travel_in_snapshots() {
        let mut store = KeyValue::default();
        let put = Change::Put(bytes("k"), Some(bytes("1"))).encode();
        assert_eq!(execute(&mut store, 5, &put), Changed::Done(None));
        let swap = |from, to| {
            Change::CompareAndSet(bytes("k"), Some(bytes(from)), Some(bytes(to))).encode()
        };
        assert_eq!(execute(&mut store, 6, &swap("2", "3")), Changed::Differs(Some(bytes("1"))));
        assert_eq!(execute(&mut store, 7, &swap("1", "3")), Changed::Done(Some(bytes("1"))));
        let mut copy = KeyValue::default();
        assert!(copy.restore(&store.snapshot()) && copy == store);
        assert_eq!(
            Found::decode(&copy.read(b"k")).unwrap(),
            Found { value: Some(bytes("3")), op: 7 }
        );
        let remove = Change::Put(bytes("k"), None).encode();
        assert_eq!(execute(&mut store, 8, &remove), Changed::Done(Some(bytes("3"))));
        assert_eq!(store.get(b"k"), Found::default());
    }

    #[test]
    fn what_is_no_change_or_has_too_long_a_key_changes_nothing() {
        let mut store = KeyValue::default();
        assert_eq!(execute(&mut store, 1, b"\xff"), Changed::Malformed);
        let long = Change::Put(vec![0; KEY_BYTES_MAX + 1].into(), Some(bytes("v"))).encode();
        assert_eq!(execute(&mut store, 2, &long), Changed::Malformed);
        assert!(!store.restore(&bytes("\u{1}")));
        assert_eq!(store, KeyValue::default());
    }
}
