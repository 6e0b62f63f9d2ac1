use super::*;
use crate::config::{Size, Trace};
use proptest::prelude::*;
use quantities::CgroupId;
use quantities::Time;
use std::path::Path;

const TICK: Duration = Duration::from_secs(5);

fn settings(max_size: u64, user_names: bool) -> Trace {
    Trace {
        enabled: true,
        max_size: Size(max_size),
        user_names,
    }
}

fn sighting(id: u64, user: &str, millis: u64) -> Sighting<'_> {
    Sighting {
        id: CgroupId(id),
        user,
        usage: Duration::from_millis(millis),
        held: false,
    }
}

fn tick(count: u32) -> Time {
    Time(Duration::from_secs(1_000_000) + TICK * count)
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn read(path: &Path) -> (Header, Vec<Frame>) {
    let mut reader = Reader::open(path).unwrap();
    let mut frames = Vec::new();
    while let Some(frame) = reader.next_frame().unwrap() {
        frames.push(frame);
    }
    (reader.header().clone(), frames)
}

#[test]
fn what_was_written_is_read_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut recorder = Recorder::new(
        directory.path().join("traces"),
        settings(1 << 20, true),
        TICK,
    );
    recorder
        .write(tick(0), &[sighting(7, "alice", 900)])
        .unwrap();
    let held = Sighting {
        held: true,
        ..sighting(9, "bob", 500)
    };
    let both = [sighting(7, "alice", 1905), held];
    recorder.write(tick(1), &both).unwrap();
    // Too little to be worth a byte, until it has come together.
    recorder
        .write(tick(2), &[sighting(7, "alice", 1912), held])
        .unwrap();
    recorder
        .write(tick(3), &[sighting(7, "alice", 1918)])
        .unwrap();
    let files = files(&directory.path().join("traces"));
    let (header, frames) = read(&files[0]);
    assert!(header.user_names && header.tick_ms == 5000);
    let millis = Duration::from_millis;
    let appeared = |server, user: &str| Event::Appeared {
        server,
        user: user.into(),
    };
    assert_eq!(
        frames
            .iter()
            .map(|frame| frame.events.clone())
            .collect::<Vec<_>>(),
        [
            vec![appeared(0, "alice")],
            vec![
                Event::Used {
                    server: 0,
                    cpu: millis(1005)
                },
                appeared(1, "bob"),
                Event::Held {
                    server: 1,
                    held: true
                },
            ],
            vec![],
            vec![
                Event::Used {
                    server: 0,
                    cpu: millis(13)
                },
                Event::Gone { server: 1 }
            ],
        ]
    );
    assert_eq!(frames[3].at, 3 * TICK);
}

#[test]
fn users_are_numbers_unless_they_may_be_named() {
    let directory = tempfile::tempdir().unwrap();
    let mut recorder = Recorder::new(directory.path().to_owned(), settings(1 << 20, false), TICK);
    recorder
        .write(tick(0), &[sighting(7, "alice", 900)])
        .unwrap();
    let bytes = std::fs::read(&files(directory.path())[0]).unwrap();
    assert!(!bytes.windows(5).any(|part| part == b"alice"));
}

#[test]
fn traces_take_no_more_than_allowed_and_the_oldest_goes_first() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("notes.trace"), "theirs").unwrap();
    std::fs::write(directory.path().join("000000000001-00.trace"), [0; 9000]).unwrap();
    let mut recorder = Recorder::new(directory.path().to_owned(), settings(40_000, false), TICK);
    for count in 0..4000u32 {
        let usage = u64::from(count) * 1000;
        let seen: Vec<_> = (0..5).map(|id| sighting(id, "x", usage)).collect();
        recorder.write(tick(count), &seen).unwrap();
    }
    let ours = |path: &&PathBuf| !path.ends_with("notes.trace");
    let files = files(directory.path());
    let total: u64 = files
        .iter()
        .filter(ours)
        .map(|f| f.metadata().unwrap().len())
        .sum();
    assert!(total <= 40_000 && total > 25_000, "{total}");
    assert!(directory.path().join("notes.trace").exists());
    assert!(!directory.path().join("000000000001-00.trace").exists());
    // Each file stands for itself: it begins with who is there.
    for file in files.iter().filter(ours) {
        let (_, frames) = read(file);
        assert_eq!(frames[0].events.len(), 5, "{}", file.display());
    }
}

#[test]
fn a_trace_cut_off_in_the_middle_is_read_up_to_there() {
    let mut bytes = serde_json::to_vec(&Header::new(1, TICK, false)).unwrap();
    bytes.push(b'\n');
    let user = String::new();
    wire::write_frame(&[Event::Appeared { server: 0, user }], TICK, &mut bytes);
    let whole = bytes.len();
    wire::write_frame(&[Event::Gone { server: 0 }], TICK, &mut bytes);
    for end in whole + 1..bytes.len() {
        let mut reader = Reader::new(Path::new("x"), &bytes[..end]).unwrap();
        assert!(reader.next_frame().unwrap().is_some());
        assert!(reader.next_frame().unwrap().is_none());
        assert!(reader.is_cut_off());
    }
}

#[test]
fn what_is_no_trace_or_contradicts_itself_is_named_with_its_place() {
    let error = |bytes: &[u8]| match Reader::new(Path::new("x"), bytes) {
        Err(error) => error.to_string(),
        Ok(mut reader) => loop {
            match reader.next_frame() {
                Ok(Some(_)) => {}
                Ok(None) => break String::new(),
                Err(error) => break error.to_string(),
            }
        },
    };
    assert!(error(b"hello\n").contains("is no trace"));
    assert!(error(&[b'x'; 5000]).contains("first line does not end"));
    let other =
        br#"{"format":"hubwarden-trace","version":2,"started":0,"tick_ms":1,"user_names":false}"#;
    let other = [other.as_slice(), b"\n"].concat();
    assert!(error(&other).contains("version 2 instead of 1"));
    let mut bytes = serde_json::to_vec(&Header::new(1, TICK, false)).unwrap();
    bytes.push(b'\n');
    let at = bytes.len();
    wire::write_frame(&[Event::Gone { server: 3 }], TICK, &mut bytes);
    let found = error(&bytes);
    assert!(
        found.contains(&format!("byte {at}: server 3 stops and was not there")),
        "{found}"
    );
    bytes.truncate(at);
    bytes.extend([0xff; 12]);
    assert!(error(&bytes).contains("a number is too large"));
}

fn event() -> impl Strategy<Value = Event> {
    let server = any::<u32>();
    prop_oneof![
        (server, ".{0,20}").prop_map(|(server, user)| Event::Appeared { server, user }),
        server.prop_map(|server| Event::Gone { server }),
        (server, any::<bool>()).prop_map(|(server, held)| Event::Held { server, held }),
        (server, any::<u64>()).prop_map(|(server, millis)| Event::Used {
            server,
            cpu: Duration::from_millis(millis),
        }),
    ]
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(tail: Vec<u8>, whole: bool) {
        let mut bytes = serde_json::to_vec(&Header::new(1, TICK, false)).unwrap();
        bytes.push(b'\n');
        if whole {
            bytes.push(u8::try_from(tail.len()).unwrap_or(0x7f));
        }
        bytes.extend(tail);
        let mut reader = Reader::new(Path::new("x"), bytes.as_slice()).unwrap();
        while let Ok(Some(_)) = reader.next_frame() {}
        let _ = Reader::new(Path::new("x"), &bytes[1..]).is_err();
    }

    #[test]
    fn every_frame_comes_back(events in prop::collection::vec(event(), 0..20), millis in 0u64..1 << 40) {
        let mut bytes = Vec::new();
        let since = Duration::from_millis(millis);
        wire::write_frame(&events, since, &mut bytes);
        let mut body = bytes.as_slice();
        let length = wire::number(&mut body).unwrap();
        prop_assert_eq!(length as usize, body.len());
        let frame = wire::read_frame(body, Duration::ZERO).unwrap();
        prop_assert_eq!(frame, Frame { at: since, events });
    }
}
