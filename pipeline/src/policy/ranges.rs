//! Sorted, disjoint ranges with values.

/// A number that an address is.
pub(super) trait Bits: Copy + Ord {
    /// Returns the next number, if there is one.
    fn next(self) -> Option<Self>;
    /// Returns the number before one that is not the least.
    fn previous(self) -> Self;
}

impl Bits for u32 {
    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }

    fn previous(self) -> Self {
        self - 1
    }
}

impl Bits for u128 {
    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }

    fn previous(self) -> Self {
        self - 1
    }
}

/// Sorted, disjoint ranges with values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ranges<K, V> {
    /// The first number of each range. A search reads nothing else.
    firsts: Box<[K]>,
    /// The last number and the value of each range.
    rest: Box<[(K, V)]>,
}

impl<K, V> Default for Ranges<K, V> {
    fn default() -> Self {
        Self { firsts: Box::default(), rest: Box::default() }
    }
}

impl<K: Bits, V: Copy + PartialEq> Ranges<K, V> {
    /// Returns the ranges of intervals, given by first number, last number and value. Two intervals
    /// are disjoint, or one contains the other, as with prefixes. The innermost interval gives a
    /// number its value; of equal intervals, the first.
    pub(super) fn nested(mut intervals: Vec<(K, K, V)>) -> Self {
        intervals.sort_by_key(|&(first, last, _)| (first, std::cmp::Reverse(last)));
        intervals.dedup_by_key(|(first, last, _)| (*first, *last));
        let mut made = Maker::default();
        for (first, last, value) in intervals {
            made.open(first, last, value);
        }
        made.close_all();
        let (firsts, rest): (Vec<_>, Vec<_>) =
            made.ranges.into_iter().map(|(first, last, value)| (first, (last, value))).unzip();
        Self { firsts: firsts.into(), rest: rest.into() }
    }

    /// Returns the value of a number.
    #[inline]
    pub(super) fn get(&self, key: K) -> Option<V> {
        let behind = self.firsts.partition_point(|&first| first <= key);
        let (last, value) = *self.rest.get(behind.wrapping_sub(1))?;
        (key <= last).then_some(value)
    }

    /// Returns whether there is no range.
    pub(super) fn is_empty(&self) -> bool {
        self.firsts.is_empty()
    }
}

/// Makes ranges of nested intervals, which are opened in the order of their first numbers, the outer
/// ones first.
struct Maker<K, V> {
    ranges: Vec<(K, K, V)>,
    /// The intervals around the next number, from outside to inside: last number and value.
    open: Vec<(K, V)>,
    /// The first number that has no range yet; `None` behind the largest.
    next: Option<K>,
}

impl<K, V> Default for Maker<K, V> {
    fn default() -> Self {
        Self { ranges: Vec::new(), open: Vec::new(), next: None }
    }
}

impl<K: Bits, V: Copy + PartialEq> Maker<K, V> {
    fn open(&mut self, first: K, last: K, value: V) {
        while let Some(&(end, _)) = self.open.last()
            && end < first
        {
            self.close();
        }
        if let (Some(&(_, outer)), Some(next)) = (self.open.last(), self.next)
            && next < first
        {
            self.push(next, first.previous(), outer);
        }
        self.next = Some(first);
        self.open.push((last, value));
    }

    /// Closes the innermost interval.
    fn close(&mut self) {
        let (Some((last, value)), Some(next)) = (self.open.pop(), self.next) else { return };
        if next <= last {
            self.push(next, last, value);
            self.next = last.next();
        }
    }

    fn close_all(&mut self) {
        while !self.open.is_empty() {
            self.close();
        }
    }

    /// Adds a range, or extends the last one.
    fn push(&mut self, first: K, last: K, value: V) {
        match self.ranges.last_mut() {
            Some((_, end, own)) if end.next() == Some(first) && *own == value => *end = last,
            _ => self.ranges.push((first, last, value)),
        }
    }
}
