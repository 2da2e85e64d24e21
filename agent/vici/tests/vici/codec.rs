use crosswan_vici::{Decoder, MAX_DEPTH, MAX_PACKET, Malformed, Message, Packet, TooLarge, Value};
use proptest::{
    collection::vec,
    prelude::{Just, ProptestConfig, Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest},
};

/// The example of the protocol's documentation.
fn example() -> (Message, Vec<u8>) {
    let sub = Message::new().with("key2", "value2");
    let section = Message::new().with_section("sub-section", sub).with_list("list1", ["item1", "item2"]);
    let message = Message::new().with("key1", "value1").with_section("section1", section);
    let bytes = [
        &b"\x03\x04key1\x00\x06value1"[..],
        b"\x01\x08section1",
        b"\x01\x0bsub-section\x03\x04key2\x00\x06value2\x02",
        b"\x04\x05list1\x05\x00\x05item1\x05\x00\x05item2\x06",
        b"\x02",
    ];
    (message, bytes.concat())
}

/// A packet as it is on the wire.
fn framed(packet: &[u8]) -> Vec<u8> {
    [&(packet.len() as u32).to_be_bytes(), packet].concat()
}

fn nested(depth: usize) -> Message {
    (0..depth).fold(Message::new(), |inner, _| Message::new().with_section("x", inner))
}

#[test]
fn every_packet_has_the_bytes_that_the_protocol_documents() {
    let (message, bytes) = example();
    let cases = [
        (Packet::Request { command: "load-conn".into(), message: message.clone() }, &b"\x00\x09load-conn"[..], true),
        (Packet::Response(message.clone()), b"\x01", true),
        (Packet::UnknownCommand, b"\x02", false),
        (Packet::Register("log".into()), b"\x03\x03log", false),
        (Packet::Unregister("log".into()), b"\x04\x03log", false),
        (Packet::Confirm, b"\x05", false),
        (Packet::UnknownEvent, b"\x06", false),
        (Packet::Event { name: "list-sa".into(), message }, b"\x07\x07list-sa", true),
    ];
    for (packet, head, carries_it) in cases {
        let expected = [head, if carries_it { &bytes } else { &[] }].concat();
        assert_eq!(packet.encode().unwrap(), framed(&expected), "{packet:?}");
        assert_eq!(Packet::decode(&expected).unwrap(), packet);
    }
}

#[test]
fn a_message_is_read_by_name_and_keeps_its_order() {
    let (message, _) = example();
    let section = message.section("section1").unwrap();
    assert_eq!(message.text("key1").unwrap(), "value1");
    assert_eq!(section.list("list1").collect::<Vec<_>>(), ["item1", "item2"]);
    assert_eq!(section.sections().map(|(name, _)| name).collect::<Vec<_>>(), ["sub-section"]);
    assert!(message.text("section1").is_none() && message.section("key1").is_none() && message.get("none").is_none());
    assert_eq!(message.list("key1").count(), 0);

    let numbers = Message::new().with("z", "7").with("a", "-1").with("m", "x").with("a", "2");
    let Packet::Response(read) = Packet::decode(&Packet::Response(numbers).encode().unwrap()[4..]).unwrap() else {
        panic!("another packet")
    };
    assert_eq!(read.iter().map(|(key, _)| key).collect::<Vec<_>>(), ["z", "a", "m", "a"]);
    let number = |key| read.number::<u8>(key);
    assert_eq!((number("z"), number("a"), number("m")), (Some(7), Some(2), None), "of two, the last one counts");
}

#[test]
fn bytes_that_are_not_text_do_not_spoil_a_message() {
    let packet = b"\x01\x03\x03\xffid\x00\x055.9\xff8\x04\x01l\x05\x00\x01\xfe\x06\x03\x04next\x00\x04fine";
    let Packet::Response(message) = Packet::decode(packet).unwrap() else { panic!("another packet") };
    assert_eq!(message.text("\u{fffd}id").unwrap(), "5.9\u{fffd}8");
    assert_eq!(message.list("l").collect::<Vec<_>>(), ["\u{fffd}"]);
    assert_eq!(message.text("next").unwrap(), "fine");
    assert_eq!(message.get("\u{fffd}id"), Some(&Value::Bytes(b"5.9\xff8".to_vec())), "the bytes themselves are kept");
}

#[test]
fn every_malformed_packet_is_an_error_that_says_why() {
    use Malformed::{ElementType, Misplaced, PacketType, TooDeep, Trailing, Truncated};
    let cases: &[(&[u8], Malformed)] = &[
        (b"", Truncated),
        (b"\x08", PacketType(8)),
        (b"\xff\x03log", PacketType(255)),
        (b"\x05\x00", Trailing(1)),
        (b"\x02ab", Trailing(2)),
        (b"\x03\x03logs", Trailing(1)),
        (b"\x03", Truncated),
        (b"\x03\x04log", Truncated),
        (b"\x07", Truncated),
        (b"\x01\x00", ElementType(0)),
        (b"\x01\x07", ElementType(7)),
        (b"\x01\x03", Truncated),
        (b"\x01\x03\x01k", Truncated),
        (b"\x01\x03\x01k\x00", Truncated),
        (b"\x01\x03\x01k\x00\x02v", Truncated),
        (b"\x01\x01\x01s", Truncated),
        (b"\x01\x01\x01s\x01\x01t\x02", Truncated),
        (b"\x01\x02", Misplaced(2)),
        (b"\x01\x01\x01s\x02\x02", Misplaced(2)),
        (b"\x01\x05\x00\x01v", Misplaced(5)),
        (b"\x01\x06", Misplaced(6)),
        (b"\x01\x04\x01l", Truncated),
        (b"\x01\x04\x01l\x05\x00\x01v", Truncated),
        (b"\x01\x04\x01l\x03\x01k\x00\x01v\x06", Misplaced(3)),
        (b"\x01\x04\x01l\x04\x01l\x06\x06", Misplaced(4)),
        (b"\x01\x04\x01l\x01\x01s\x02\x06", Misplaced(1)),
        (b"\x01\x04\x01l\x09", ElementType(9)),
    ];
    for (packet, error) in cases {
        assert_eq!(Packet::decode(packet).unwrap_err(), *error, "{packet:?}");
        let mut decoder = Decoder::default();
        decoder.room().extend(framed(packet));
        for _ in 0..3 {
            assert_eq!(decoder.next_packet().unwrap_err(), *error, "it is never passed over: {packet:?}");
        }
    }
    for depth in [MAX_DEPTH + 1, 200_000] {
        let packet = [&[1][..], &b"\x01\x00".repeat(depth), &b"\x02".repeat(depth)].concat();
        assert_eq!(Packet::decode(&packet).unwrap_err(), TooDeep, "{depth}");
    }
    let beside = [&[1][..], &b"\x01\x00\x02".repeat(10 * MAX_DEPTH)].concat();
    assert!(Packet::decode(&beside).is_ok(), "sections beside each other are not nested");
}

#[test]
fn a_length_beyond_the_limit_is_refused_before_anything_of_it_has_come() {
    for length in [MAX_PACKET as u32 + 1, u32::MAX] {
        let mut decoder = Decoder::default();
        decoder.room().extend(length.to_be_bytes());
        assert_eq!(decoder.next_packet().unwrap_err(), Malformed::Oversized(length as usize));
    }
    let mut decoder = Decoder::default();
    decoder.room().extend((MAX_PACKET as u32).to_be_bytes());
    assert_eq!(decoder.next_packet().unwrap(), None);
}

#[test]
fn what_vici_cannot_say_is_an_error_and_not_a_cut_packet() {
    let limits = |message: Message| Packet::Response(message).encode().map(|_| ()).map_err(|e: TooLarge| e.to_string());
    let key = |length| Message::new().with(&"k".repeat(length), "");
    let value = |length| Message::new().with("k", vec![b'v'; length]);
    let item = |length| Message::new().with_list("k", [vec![b'v'; length]]);
    let packet = |filler: usize| {
        let full = (0..8).fold(Message::new(), |all, _| all.with("k", vec![0; 65_500]));
        full.with("", vec![0; filler])
    };
    let size = |message: Message| Packet::Response(message).encode().map_or(0, |bytes| bytes.len() - 4);
    let most = MAX_PACKET - size(packet(0));
    assert_eq!(size(packet(most)), MAX_PACKET);
    for (fits, exceeds, what) in [
        (key(255), key(256), "a name of 256, and VICI's limit is 255"),
        (value(65_535), value(65_536), "a value of 65536, and VICI's limit is 65535"),
        (item(65_535), item(65_536), "a value of 65536, and VICI's limit is 65535"),
        (nested(MAX_DEPTH), nested(MAX_DEPTH + 1), "a section depth of 17, and VICI's limit is 16"),
        (packet(most), packet(most + 1), "a packet of 524289, and VICI's limit is 524288"),
    ] {
        assert_eq!(limits(fits), Ok(()), "{what}");
        assert_eq!(limits(exceeds), Err(format!("the request has {what}")));
    }
}

#[test]
fn debug_output_shows_no_value_because_some_are_keys() {
    let message = Message::new().with("data", "correct horse").with_list("owners", ["hub"]);
    let shown = format!("{:?}", Packet::Request { command: "load-shared".into(), message });
    assert!(shown.contains("load-shared") && shown.contains("owners"), "{shown}");
    assert!(!shown.contains("horse") && !shown.contains("hub"), "{shown}");
}

#[test]
fn a_stream_without_an_end_takes_no_more_room_than_what_is_not_yet_decoded() {
    let packet = Packet::Event { name: "list-sa".into(), message: example().0 }.encode().unwrap();
    let mut decoder = Decoder::default();
    for _ in 0..2_000 {
        decoder.room().extend(packet.repeat(10));
        for _ in 0..10 {
            assert!(decoder.next_packet().unwrap().is_some());
        }
        let room = decoder.room();
        assert!(room.is_empty() && room.capacity() < 100_000, "{} bytes, {} reserved", room.len(), room.capacity());
    }
}

fn messages() -> impl Strategy<Value = Message> {
    let bytes = || vec(any::<u8>(), 0..40);
    let leaf = prop_oneof![bytes().prop_map(Value::Bytes), vec(bytes(), 0..4).prop_map(Value::List)];
    let entries = |value: prop::strategy::BoxedStrategy<Value>| {
        vec(("\\PC{0,12}", value), 0..5).prop_map(|entries| {
            entries.into_iter().fold(Message::new(), |mut message, (key, value)| {
                message.push(&key, value);
                message
            })
        })
    };
    let value = leaf.prop_recursive(5, 40, 5, move |inner| entries(inner.boxed()).prop_map(Value::Section));
    entries(value.boxed())
}

fn packets() -> impl Strategy<Value = Packet> {
    let name = || "[a-z-]{0,20}";
    prop_oneof![
        4 => messages().prop_map(Packet::Response),
        2 => (name(), messages()).prop_map(|(command, message)| Packet::Request { command, message }),
        2 => (name(), messages()).prop_map(|(name, message)| Packet::Event { name, message }),
        1 => name().prop_map(Packet::Register),
        1 => name().prop_map(Packet::Unregister),
        1 => prop_oneof![Just(Packet::Confirm), Just(Packet::UnknownCommand), Just(Packet::UnknownEvent)],
    ]
}

/// What a decoder makes of a stream that comes in these pieces.
fn decode<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> Result<Vec<Packet>, Malformed> {
    let (mut decoder, mut packets) = (Decoder::default(), Vec::new());
    for piece in pieces {
        decoder.room().extend(piece);
        while let Some(packet) = decoder.next_packet()? {
            packets.push(packet);
        }
    }
    Ok(packets)
}

proptest! {
    #[test]
    fn what_is_encoded_decodes_to_the_same(packet in packets()) {
        let bytes = packet.encode().unwrap();
        prop_assert_eq!(Packet::decode(&bytes[4..]).unwrap(), packet);
    }

    #[test]
    fn no_bytes_panic_and_what_decodes_can_be_encoded_again(
        bytes in vec(prop_oneof![3 => 0u8..8, 1 => any::<u8>()], 0..200),
    ) {
        if let Ok(packet) = Packet::decode(&bytes) {
            let again = packet.encode().unwrap();
            prop_assert_eq!(Packet::decode(&again[4..]).unwrap(), packet);
        }
        let _ = decode(bytes.chunks(7));
    }

    #[test]
    fn a_packet_that_is_damaged_or_cut_never_panics(packet in packets(), at: prop::sample::Index, byte: u8, cut: bool) {
        let mut bytes = packet.encode().unwrap();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        if let (Ok(packets), true) = (decode([&bytes[..]]), cut) {
            prop_assert!(packets.is_empty(), "a cut packet is not handed over");
        }
    }
}

proptest! {
    // Each case tries every byte boundary.
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn packets_that_are_split_anywhere_read_the_same(packets in vec(packets(), 1..4)) {
        let bytes: Vec<u8> = packets.iter().flat_map(|packet| packet.encode().unwrap()).collect();
        for at in 0..=bytes.len() {
            let (first, rest) = bytes.split_at(at);
            prop_assert_eq!(&decode([first, rest]).unwrap(), &packets, "split at {}", at);
        }
        prop_assert_eq!(&decode(bytes.chunks(1)).unwrap(), &packets);
    }
}
