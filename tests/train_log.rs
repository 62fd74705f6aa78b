//! Promise: log.jsonl and TensorBoard's event files say the same, each step once, also after a resume. TensorBoard's own reader: golden/events.py.

#[path = "common/training.rs"]
mod training;

use std::{collections::BTreeMap, path::Path};

use selfrag::train::{Trainer, run};
use serde_json::{Value, json};
use training::{Scratch, tiny_run};

/// CRC-32C by a table, unlike the writer.
fn crc32c(bytes: &[u8]) -> u32 {
    let entry = |byte: u32| (0..8).fold(byte, |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 });
    let table: Vec<u32> = (0..256).map(entry).collect();
    !bytes.iter().fold(u32::MAX, |crc, &byte| table[((crc ^ u32::from(byte)) & 0xff) as usize] ^ crc >> 8)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    let (head, rest) = bytes.split_at(N);
    *bytes = rest;
    head.try_into().unwrap()
}

/// The records of a TFRecord file, checksums checked.
fn records(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    let masked = |bytes: &[u8]| {
        let crc = crc32c(bytes);
        crc.rotate_right(15).wrapping_add(0xa282_ead8)
    };
    while !bytes.is_empty() {
        let length = take::<8>(&mut bytes);
        assert_eq!(u32::from_le_bytes(take(&mut bytes)), masked(&length));
        let (record, rest) = bytes.split_at(u64::from_le_bytes(length) as usize);
        bytes = rest;
        assert_eq!(u32::from_le_bytes(take(&mut bytes)), masked(record));
        records.push(record.to_vec());
    }
    records
}

enum Field {
    Number(u64),
    Bytes(Vec<u8>),
}

/// A protobuf message's fields.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Field)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let [byte] = take(bytes);
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let value = match key & 7 {
            0 => Field::Number(varint(&mut bytes)),
            1 => Field::Number(u64::from_le_bytes(take(&mut bytes))),
            5 => Field::Number(u32::from_le_bytes(take(&mut bytes)).into()),
            2 => {
                let length = varint(&mut bytes) as usize;
                let (value, rest) = bytes.split_at(length);
                bytes = rest;
                Field::Bytes(value.to_vec())
            }
            other => panic!("wire type {other}"),
        };
        fields.push((key >> 3, value));
    }
    fields
}

/// Scalars by tag and step, as TensorBoard's `EventAccumulator` has them: files in the order of their names; a START forgets its step and later ones.
fn scalars(folder: &Path) -> BTreeMap<String, BTreeMap<u64, f32>> {
    let mut files: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with("events.out.tfevents."));
    files.sort();
    let mut scalars: BTreeMap<String, BTreeMap<u64, f32>> = BTreeMap::new();
    for file in files {
        let records = records(&std::fs::read(file).unwrap());
        for (number, record) in records.iter().enumerate() {
            let event = fields(record);
            let step =
                event.iter().find_map(|(n, v)| if let (2, Field::Number(step)) = (n, v) { Some(*step) } else { None });
            let step = step.expect("every event has a step");
            for (field, value) in event {
                let Field::Bytes(value) = value else { continue };
                match field {
                    3 => assert!(number == 0 && value == b"brain.Event:2"),
                    5 => {
                        for (_, value) in fields(&value) {
                            let Field::Bytes(value) = value else { panic!("a message expected") };
                            let [(1, Field::Bytes(tag)), (2, Field::Number(bits))] = &fields(&value)[..] else {
                                panic!("tag and value expected")
                            };
                            let of_tag = scalars.entry(String::from_utf8(tag.clone()).unwrap()).or_default();
                            let before = of_tag.insert(step, f32::from_bits(*bits as u32));
                            assert!(before.is_none(), "step {step} twice");
                        }
                    }
                    7 => {
                        assert!(matches!(fields(&value)[..], [(1, Field::Number(1))]));
                        scalars.values_mut().for_each(|of_tag| of_tag.retain(|&at, _| at < step));
                    }
                    other => panic!("field {other}"),
                }
            }
        }
    }
    scalars
}

fn lines(folder: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("log.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn event_files_say_what_the_log_says_also_after_a_resume() {
    let scratch = Scratch::new("events");
    let config = tiny_run(&scratch, json!({"save_every": 2, "max_steps": 5, "keep": 0, "peak_tflops": 0.5}));
    let folder = config.output.clone();
    run(&mut Trainer::new(config.clone(), None).unwrap(), &mut |_, _| ()).unwrap();
    let names = [
        "train/loss",
        "train/learning_rate",
        "train/grad_norm",
        "speed/tokens_per_second",
        "speed/tflops",
        "speed/mfu",
    ];
    let fields = ["loss", "lr", "grad_norm", "tokens_per_second", "tflops", "mfu"];
    let check = || {
        let (scalars, lines) = (scalars(&folder), lines(&folder));
        let steps: Vec<u64> = lines.iter().map(|line| line["step"].as_u64().unwrap()).collect();
        assert_eq!(steps, [1, 2, 3, 4, 5]);
        for (name, field) in names.into_iter().zip(fields) {
            let expected: BTreeMap<u64, f32> = lines
                .iter()
                .map(|line| (line["step"].as_u64().unwrap(), line[field].as_f64().unwrap() as f32))
                .collect();
            assert_eq!(scalars[name], expected, "{name}");
        }
        lines
    };
    for line in check() {
        let [flops, tflops, mfu] = ["flops", "tflops", "mfu"].map(|name| line[name].as_f64().unwrap());
        assert!(flops > 1e6 && (tflops / 0.5 - mfu).abs() < 1e-9 * mfu, "{line}");
    }
    // Once more from step 2, within the same second: what the first file says of steps 3 to 5 is superseded.
    let checkpoint = folder.join("step-0000002");
    run(&mut Trainer::new(config.clone(), Some(&checkpoint)).unwrap(), &mut |_, _| ()).unwrap();
    check();
    // Nothing left to do: nothing is written.
    let count = || folder.read_dir().unwrap().count();
    let before = count();
    let last = folder.join("step-0000005");
    run(&mut Trainer::new(config, Some(&last)).unwrap(), &mut |_, _| ()).unwrap();
    assert_eq!(count(), before);
    check();
}

#[test]
fn without_a_peak_there_is_no_mfu() {
    let scratch = Scratch::new("no-mfu");
    let config = tiny_run(&scratch, json!({"max_steps": 1}));
    run(&mut Trainer::new(config.clone(), None).unwrap(), &mut |_, pace| assert_eq!(pace.mfu, None)).unwrap();
    assert!(lines(&config.output)[0].get("mfu").is_none());
    assert!(!scalars(&config.output).contains_key("speed/mfu"));
}
