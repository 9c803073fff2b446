//! Sorted, disjoint ranges with values.

/// A number that an address is.
pub(super) trait Bits: Copy + Ord {
    /// Returns the next number, if there is one.
    fn next(self) -> Option<Self>;
    /// Returns the number before one that is not the least.
    fn previous(self) -> Self;
    /// Returns the distance from a smaller number, without its lower `shift` bits.
    fn distance(self, smaller: Self, shift: u32) -> usize;
}

impl Bits for u32 {
    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }

    fn previous(self) -> Self {
        self - 1
    }

    #[inline(always)]
    fn distance(self, smaller: Self, shift: u32) -> usize {
        ((self - smaller) >> shift) as usize
    }
}

impl Bits for u128 {
    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }

    fn previous(self) -> Self {
        self - 1
    }

    #[inline(always)]
    fn distance(self, smaller: Self, shift: u32) -> usize {
        usize::try_from((self - smaller) >> shift).unwrap_or(usize::MAX)
    }
}

/// So many ranges are searched as they are.
const FEW: usize = 8;

/// Sorted, disjoint ranges with values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ranges<K, V> {
    /// The first number of each range. A search reads nothing else.
    firsts: Box<[K]>,
    /// The last number and the value of each range.
    rest: Box<[(K, V)]>,
    /// The numbers from the first range to the last are cut into as many parts of equal width as
    /// there are ranges, about: where the ranges of each part begin among all. A search is confined
    /// to one part.
    parts: Box<[u32]>,
    /// The width of a part is two to the power of this.
    shift: u32,
}

impl<K, V> Default for Ranges<K, V> {
    fn default() -> Self {
        Self { firsts: Box::default(), rest: Box::default(), parts: Box::default(), shift: 0 }
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
        let (parts, shift) = parts(&firsts);
        Self { firsts: firsts.into(), rest: rest.into(), parts, shift }
    }

    /// Returns the value of a number.
    #[inline]
    pub(super) fn get(&self, key: K) -> Option<V> {
        let least = *self.firsts.first()?;
        if key < least {
            return None;
        }
        let part = key.distance(least, self.shift).min(self.parts.len() - 2);
        let [from, to] = [self.parts[part], self.parts[part + 1]].map(|at| at as usize);
        let behind = from + self.firsts[from..to].partition_point(|&first| first <= key);
        // It may be the last range of an earlier part.
        let (last, value) = *self.rest.get(behind.wrapping_sub(1))?;
        (key <= last).then_some(value)
    }

    /// Returns whether there is no range.
    pub(super) fn is_empty(&self) -> bool {
        self.firsts.is_empty()
    }
}

/// Returns where the ranges of each part begin, with the number of ranges at the end, and the shift.
fn parts<K: Bits>(firsts: &[K]) -> (Box<[u32]>, u32) {
    let (Some(&least), Some(&largest)) = (firsts.first(), firsts.last()) else {
        return (Box::default(), 0);
    };
    let count = if firsts.len() > FEW { firsts.len().next_power_of_two() } else { 1 };
    let mut shift = 0;
    while count > 1 && largest.distance(least, shift) >= count {
        shift += 1;
    }
    let part = |first: &K| first.distance(least, shift).min(count - 1);
    let mut parts = vec![0u32; count + 1];
    firsts.iter().for_each(|first| parts[part(first) + 1] += 1);
    for at in 1..=count {
        parts[at] += parts[at - 1];
    }
    (parts.into(), shift)
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
