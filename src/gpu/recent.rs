//! What was made lately, within a bound: two generations, of which the older goes when the younger is full.

use std::collections::HashMap;
use std::hash::Hash;
use std::mem::{replace, take};

/// Values by their keys: the last `generation` that were asked for are there, and never more than twice as many.
pub(super) struct Recent<K, V> {
    generation: usize,
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K: Eq + Hash, V: Clone> Recent<K, V> {
    pub(super) fn new(generation: usize) -> Recent<K, V> {
        Recent { generation, young: HashMap::new(), old: HashMap::new() }
    }

    /// What is kept under a key, which is young from then on.
    pub(super) fn get(&mut self, key: &K) -> Option<V> {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let (key, value) = self.old.remove_entry(key)?;
        self.insert(key, value.clone());
        Some(value)
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.generation {
            self.old = replace(&mut self.young, take(&mut self.old));
            self.young.clear();
        }
        self.young.insert(key, value);
    }

    /// Keeps what the test says yes to.
    pub(super) fn retain(&mut self, test: impl Fn(&K) -> bool) {
        self.young.retain(|key, _| test(key));
        self.old.retain(|key, _| test(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_stay_and_the_bound_holds() {
        let mut recent = Recent::new(10);
        for key in 0..1000 {
            recent.insert(key, key * 2);
            assert!(recent.young.len() + recent.old.len() <= 20);
            // Asked for again and again, it never goes.
            assert_eq!(recent.get(&0), Some(0), "at {key}");
            for late in (key - 4).max(0)..=key {
                assert_eq!(recent.get(&late), Some(late * 2), "{late} at {key}");
            }
        }
        assert_eq!(recent.get(&500), None);
        recent.retain(|key| *key != 999);
        assert_eq!((recent.get(&999), recent.get(&998)), (None, Some(1996)));
    }
}
