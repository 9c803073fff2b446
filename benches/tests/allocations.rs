//! The data path allocates nothing: no burst of any kind of work does, once the first few of its
//! kind have passed. Counted by a global allocator that counts, for the thread that asks.

use firstack_benches::cases;

#[test]
fn no_burst_allocates() {
    let mut allocating = Vec::new();
    for case in cases::all() {
        let (mut calls, mut bytes) = (0, 0);
        case.run(|work| {
            let made = allocation_counter::measure(|| work.step());
            calls += made.count_total;
            bytes += made.bytes_total;
        });
        if calls > 0 {
            let steps = cases::MEASURED * case.steps;
            allocating.push(format!("{}: {calls} in {steps} bursts, {bytes} bytes", case.name));
        }
    }
    assert!(allocating.is_empty(), "allocations:\n{}", allocating.join("\n"));
}

/// What the test above rests on: an allocation in a burst does count.
#[test]
fn an_allocation_in_a_burst_is_counted() {
    let case = cases::all().next().unwrap();
    let mut calls = 0;
    case.run(|work| {
        let made = allocation_counter::measure(|| {
            work.step();
            std::hint::black_box(&mut Vec::new()).push(1_u8);
        });
        calls += made.count_total;
    });
    assert_eq!(calls, (cases::MEASURED * case.steps) as u64);
}
