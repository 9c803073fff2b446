use super::*;

/// A block of a pcapng file: little-endian, padded.
fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let padded = body.len().next_multiple_of(4);
    let length = (padded as u32 + 12).to_le_bytes();
    let mut block = [&kind.to_le_bytes(), &length, body].concat();
    block.resize(8 + padded, 0);
    block.extend(length);
    block
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn section(options: &[u8]) -> Vec<u8> {
    block(0x0a0d_0d0a, &[&words(&[0x1a2b_3c4d, 1, u32::MAX, u32::MAX]), options].concat())
}

fn interface(link: u32, options: &[u8]) -> Vec<u8> {
    block(1, &[&words(&[link, 65_535]), options].concat())
}

/// An option without an end of options behind it.
fn option(code: u16, value: &[u8]) -> Vec<u8> {
    let mut option = [&code.to_le_bytes()[..], &(value.len() as u16).to_le_bytes(), value].concat();
    option.resize(option.len().next_multiple_of(4), 0);
    option
}

const FRAME: [u8; 60] = [9; 60];

fn packet(interface: u32, time: u64) -> Vec<u8> {
    let head = words(&[interface, (time >> 32) as u32, time as u32, 60, 60]);
    block(6, &[&head[..], &FRAME].concat())
}

fn open(file: &[u8]) -> Result<Reader<&[u8]>, String> {
    Reader::new("in", file).map_err(|error| error.to_string())
}

/// The times of a sound file's frames.
#[track_caller]
fn times(file: &[u8]) -> Vec<Duration> {
    let mut reader = open(file).unwrap();
    let frames: Vec<_> = reader.by_ref().collect();
    assert_eq!(reader.damage(), None);
    assert!(frames.iter().all(|frame| frame.bytes == FRAME && !frame.is_cut()), "{frames:?}");
    frames.iter().map(|frame| frame.time).collect()
}

const SECOND: Duration = Duration::from_secs(1);

fn classic(link: u32, packets: &[(u32, &[u8], u32)]) -> Vec<u8> {
    let mut file = words(&[0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, link]);
    for (seconds, bytes, length) in packets {
        file.extend(words(&[*seconds, 0, bytes.len() as u32, *length]));
        file.extend(*bytes);
    }
    file
}

#[test]
fn bits_of_the_fcs_are_no_part_of_a_link_type() {
    for link in [1, 0x4400_0001, 0xfc00_0001] {
        assert_eq!(times(&classic(link, &[(1, &FRAME, 60)])), [SECOND], "{link:x}");
    }
    for link in [0, 2, 101, 0x0001_0001, 0x0200_0001] {
        let error = open(&classic(link, &[(1, &FRAME, 60)])).err().unwrap();
        assert!(error.contains("link type is"), "{error}");
    }
}

#[test]
fn a_record_of_old_linux_kernels_has_a_longer_header() {
    let mut file = classic(1, &[]);
    file[..4].copy_from_slice(&0xa1b2_cd34u32.to_le_bytes());
    file.extend(words(&[1, 0, 60, 60, 3, 0x0008]));
    file.extend(FRAME);
    assert_eq!(times(&file), [SECOND]);
}

#[test]
fn options_need_no_end_and_may_have_any_length() {
    let sections = [Vec::new(), option(4, b"a program"), vec![0; 4], vec![1, 0, 9, 0], vec![1, 0]];
    for options in sections {
        let file = [section(&options), interface(1, &[]), packet(0, 1_000_000)].concat();
        assert_eq!(times(&file), [SECOND], "{options:?}");
    }
    for options in [option(6, &[0; 8]), option(6, &[1]), option(0xbad, b"hi")] {
        let file = [section(&[]), interface(1, &options), packet(0, 1_000_000)].concat();
        assert_eq!(times(&file), [SECOND], "{options:?}");
    }
}

#[test]
fn timestamps_have_a_unit_and_an_offset() {
    let at = |options: &[u8], count| {
        times(&[section(&[]), interface(1, options), packet(0, count)].concat())[0]
    };
    assert_eq!(at(&option(9, &[9]), 1_000_000_000), SECOND);
    assert_eq!(at(&option(9, &[0x80 | 10]), 1024), SECOND);
    assert_eq!(at(&option(9, &[0]), 1), SECOND);
    assert_eq!(at(&option(14, &1000u64.to_le_bytes()), 1_000_000), 1001 * SECOND);
    assert_eq!(at(&option(14, &(-1i64).to_le_bytes()), 3_000_000), 2 * SECOND);
    let both = [option(14, &7u64.to_le_bytes()), option(9, &[3])].concat();
    assert_eq!(at(&both, 1000), 8 * SECOND);
    // Before the epoch, and after what a count of nanoseconds can hold.
    assert_eq!(at(&option(14, &i64::MIN.to_le_bytes()), 1), Duration::ZERO);
    let far = at(&option(14, &i64::MAX.to_le_bytes()), u64::MAX);
    assert_eq!(far, Duration::from_nanos(u64::MAX));
    assert_eq!(at(&option(9, &[255]), 1), Duration::ZERO);
}

#[test]
fn a_packet_without_a_time_has_that_of_the_one_before() {
    let simple = |length| block(3, &[&words(&[length])[..], &FRAME].concat());
    let start = [section(&[]), interface(1, &[])].concat();
    assert_eq!(times(&[&start[..], &simple(60)].concat()), [Duration::ZERO]);
    let after = [&start[..], &packet(0, 1_000_000), &simple(60)].concat();
    assert_eq!(times(&after), [SECOND, SECOND]);
    // Cut by the snapshot length of its interface.
    let short = block(1, &words(&[1, 60]));
    let mut cut = open(&[&section(&[])[..], &short, &simple(90)].concat()).unwrap().last().unwrap();
    assert!(cut.is_cut() && cut.bytes == FRAME && cut.wire_length == 90);
    let none = block(1, &words(&[1, 0]));
    cut = open(&[&section(&[])[..], &none, &simple(60)].concat()).unwrap().last().unwrap();
    assert!(!cut.is_cut());
}

#[test]
fn the_old_form_of_a_packet_is_read() {
    let old = block(2, &[&words(&[0xffff_0000, 0, 1_000_000, 60, 60])[..], &FRAME].concat());
    assert_eq!(times(&[section(&[]), interface(1, &[]), old].concat()), [SECOND]);
}

#[test]
fn packets_of_other_interfaces_are_skipped_and_counted() {
    let start = [section(&[]), interface(1, &[]), interface(101, &[])].concat();
    let file = [&start[..], &packet(1, 0), &packet(0, 2_000_000), &packet(1, 3)].concat();
    let mut reader = open(&file).unwrap();
    let frames: Vec<_> = reader.by_ref().map(|frame| frame.number).collect();
    assert_eq!((frames, reader.damage()), (vec![2], None));
    assert_eq!(reader.notes(), ["in: 2 packets skipped: not Ethernet, link type 101"]);
    // With no Ethernet at all it is another kind of capture.
    let error = open(&[&start[..], &packet(1, 0)].concat()).err().unwrap();
    assert_eq!(error, "in: link type is 101; expected Ethernet (link type 1)");
    assert!(times(&start).is_empty());
}

#[test]
fn a_section_begins_with_its_own_byte_order_and_interfaces() {
    let one = [section(&[]), interface(101, &[]), interface(1, &[]), packet(1, 1_000_000)].concat();
    let other = [section(&[]), block(0xbad, b"unknown"), interface(1, &[]), packet(0, 2_000_000)];
    let mut both = one.clone();
    both.extend(other.concat());
    assert_eq!(times(&both), [SECOND, 2 * SECOND]);
    let big = [
        &[0x0a, 0x0d, 0x0d, 0x0a, 0, 0, 0, 28, 0x1a, 0x2b, 0x3c, 0x4d, 0, 1, 0, 0][..],
        &[0xff; 8],
        &[0, 0, 0, 28, 0, 0, 0, 1, 0, 0, 0, 20, 0, 1, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 20],
        &[0, 0, 0, 6, 0, 0, 0, 92, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x0f, 0x42, 0x40],
        &[0, 0, 0, 60, 0, 0, 0, 60],
        &FRAME,
        &[0, 0, 0, 92],
    ];
    assert_eq!(times(&[one, big.concat()].concat()), [SECOND, SECOND]);
    // An interface of the section before.
    let stray = [section(&[]), interface(1, &[]), section(&[]), packet(0, 1)].concat();
    let mut stray = open(&stray).unwrap();
    assert_eq!(stray.next(), None);
    assert!(stray.damage().unwrap().contains("interface 0"), "{:?}", stray.damage());
}

#[test]
fn frames_that_were_captured_in_part_are_noted() {
    let packets: &[(u32, &[u8], u32)] = &[(1, &FRAME, 60), (2, &FRAME, 1514), (3, &FRAME, 900)];
    let file = classic(1, packets);
    let mut reader = open(&file).unwrap();
    let cut: Vec<_> = reader.by_ref().map(|frame| frame.is_cut()).collect();
    assert_eq!(cut, [false, true, true]);
    let note = "in: 2 frames cut by the snapshot length, first frame 2: 60 of 1514 bytes";
    assert!(reader.notes()[0].starts_with(note), "{:?}", reader.notes());
}

#[test]
fn damage_is_named_with_the_frame_before_it() {
    let start = [section(&[]), interface(1, &[]), packet(0, 1)].concat();
    let damaged = |rest: &[u8], why: &str| {
        let file = [&start[..], rest].concat();
        let mut reader = open(&file).unwrap();
        assert_eq!(reader.by_ref().count(), 1, "{why}");
        let damage = reader.damage().unwrap();
        assert!(damage.starts_with("in: after frame 1: ") && damage.contains(why), "{damage}");
    };
    let whole = packet(0, 1);
    for length in [1, 7, 8, 20, 70, whole.len() - 1] {
        damaged(&whole[..length], "ends in the middle");
    }
    damaged(&words(&[6, 13, 0, 13]), "a block of 13 bytes");
    damaged(&words(&[6, 8, 0, 8]), "a block of 8 bytes");
    damaged(&words(&[6, 0xffff_fff0]), "a block of");
    damaged(&words(&[0xbad, 12, 16]), "two lengths");
    damaged(&words(&[0x0a0d_0d0a, 28, 7]), "byte order");
    damaged(&block(6, &words(&[0, 0, 0, 80, 80])), "too short");
    damaged(&block(6, &words(&[0, 0, 0, 1 << 20, 80])), "1048576 bytes");
    damaged(&block(6, &[]), "too short");
    damaged(&block(3, &[]), "too short");
    damaged(&block(1, &[]), "too short");
    damaged(&packet(7, 1), "interface 7");
}

#[test]
fn what_is_no_capture_is_refused() {
    let mut old = classic(1, &[]);
    old[4] = 1;
    let mut new = section(&[]);
    new[12] = 2;
    for file in [&b"This is a text and no capture."[..], &[0; 40], &old] {
        assert_eq!(open(file).err().unwrap(), "in: not a pcap or pcapng file");
    }
    for file in [&classic(1, &[])[..20], &section(&[])[..9], &[0xa1], &new, &section(&[])[..20]] {
        let error = open(file).err().unwrap();
        assert!(error.contains("not a whole pcap or pcapng file: "), "{error}");
    }
    assert!(open(&[]).err().unwrap().contains("is empty"));
}

#[test]
fn what_cannot_be_written_as_it_is_is_clamped() {
    let mut file = Vec::new();
    let mut writer = Writer::new("out", &mut file).unwrap();
    writer.write(LAST_TIME + SECOND, &FRAME).unwrap();
    writer.write(SECOND, &vec![9; SNAPLEN as usize + 5]).unwrap();
    writer.finish().unwrap();
    let frames: Vec<_> = open(&file).unwrap().collect();
    assert_eq!((frames[0].time, frames[0].is_cut()), (LAST_TIME, false));
    assert_eq!((frames[1].bytes.len(), frames[1].wire_length), (1 << 18, (1 << 18) + 5));
}

proptest::proptest! {
    /// Nothing breaks the reader, and it allocates no more than the file has.
    #[test]
    fn any_bytes_are_read_or_refused(
        at in 0usize..200,
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..12),
        is_classic in proptest::prelude::any::<bool>(),
    ) {
        let mut file = match is_classic {
            true => classic(1, &[(1, &FRAME, 60), (2, &FRAME, 60)]),
            false => [section(&[]), interface(1, &option(9, &[9])), packet(0, 1)].concat(),
        };
        let at = at.min(file.len());
        let end = (at + bytes.len()).min(file.len());
        file.splice(at..end, bytes);
        if let Ok(reader) = open(&file) {
            let read: usize = reader.map(|frame| frame.bytes.len()).sum();
            proptest::prop_assert!(read <= file.len());
        }
    }
}
