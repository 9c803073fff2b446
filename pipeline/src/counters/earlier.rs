//! The numbers of replicas and servers across a reload.

/// The numbers that the replicas or servers of all services had before a reload, by their present
/// numbers. What was counted and found out of them is carried over by this.
///
/// # Examples
/// ```
/// use pipeline::counters::EarlierNumbers;
///
/// // The first one is new; the one that was second has left.
/// let earlier = EarlierNumbers::new([None, Some(0), Some(2)]);
/// assert_eq!((earlier.of(0), earlier.of(2)), (None, Some(2)));
/// // By default all keep their numbers.
/// assert_eq!(EarlierNumbers::default().of(7), Some(7));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EarlierNumbers(Option<Box<[Option<usize>]>>);

impl EarlierNumbers {
    /// Returns the earlier numbers, in the order of the present ones; `None`: it is new.
    pub fn new(numbers: impl IntoIterator<Item = Option<usize>>) -> Self {
        Self(Some(numbers.into_iter().collect()))
    }

    /// Returns the earlier number of the replica or server that has this number now; `None`: it is
    /// new.
    pub fn of(&self, number: usize) -> Option<usize> {
        match &self.0 {
            None => Some(number),
            Some(numbers) => numbers.get(number).copied().flatten(),
        }
    }
}
