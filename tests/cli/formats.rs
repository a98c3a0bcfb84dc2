//! Any input to any output.

use crate::support::{Site, Table};

const FORMATS: [&str; 4] = ["csv", "parquet", "arrow", "arrows"];

/// The sample, re-wrapped, as the one batch of an Arrow file.
fn rewrapped(site: &Site) -> arrow::array::RecordBatch {
    site.rekek("rewrap export.csv -o text.arrow --secrets secrets.json --to kv2").good();
    let file = std::fs::File::open(site.path("text.arrow")).unwrap();
    arrow::ipc::reader::FileReader::try_new(file, None).unwrap().next().unwrap().unwrap()
}

#[test]
fn any_input_goes_to_any_output_and_is_verified_against_it() {
    let site = Site::sample();
    site.write("export.csv", Table::sample().text());
    // The sample in every format: a re-wrap that changes nothing, by way of a key that is target already.
    site.rekek("keygen kv3 --secrets secrets.json").good();
    let mut reports = Vec::new();
    for to in FORMATS {
        site.rekek(&format!("rewrap export.csv -o a.{to} --secrets secrets.json --to kv2")).good();
        for again in FORMATS {
            let (from, out) = (format!("a.{to}"), format!("b-{to}.{again}"));
            let run = site.rekek(&format!("rewrap {from} -o {out} --secrets secrets.json --to kv3 --json"));
            assert_eq!((run.status, run.stderr.as_str()), (0, ""), "{from} to {out}");
            reports.push(run.json()["fields_reencrypted"].clone());
            let line = format!("verify {out} --source {from} --secrets secrets.json");
            site.rekek(&line).good();
            let report = site.rekek(&format!("inspect {out} --json")).json();
            assert_eq!(
                (&report["rows"], &report["fields_by_key"]["kv3"]),
                (&150.into(), &287.into()),
                "{out}"
            );
        }
    }
    assert!(reports.iter().all(|n| n == 287), "{reports:?}");
}

/// A column may change its type on the way to another format, and is still what it was.
#[test]
fn columns_that_are_no_text_are_verified_too() {
    use arrow::array::*;
    use arrow::datatypes::{DataType, Int32Type};
    use std::sync::Arc;
    let site = Site::sample();
    let text = rewrapped(&site);
    let rows = text.num_rows() as i64;
    let some = |i: i64| (i % 5 > 0).then_some(i * 86_400_000);
    let numbers = || (0..rows).map(some);
    let dictionary = DictionaryArray::<Int32Type>::new(
        (0..rows as i32).map(|i| (i % 5 > 0).then_some(i % 3)).collect(),
        Arc::new(Int64Array::from(vec![7, 8, -9])),
    );
    let columns: [(&str, ArrayRef); 8] = [
        ("number", Arc::new(numbers().collect::<Int64Array>())),
        ("numbers", Arc::new(dictionary)),
        ("second", Arc::new(numbers().collect::<TimestampSecondArray>().with_timezone("UTC"))),
        ("micro", Arc::new(numbers().collect::<TimestampMicrosecondArray>().with_timezone("Europe/Berlin"))),
        ("amount", Arc::new(numbers().map(|n| n.map(i128::from)).collect::<Decimal128Array>())),
        ("part", Arc::new(numbers().map(|n| n.map(|n| n as f64 / 7.0)).collect::<Float64Array>())),
        ("yes", Arc::new(numbers().map(|n| n.map(|n| n % 2 == 0)).collect::<BooleanArray>())),
        ("none", Arc::new(NullArray::new(rows as usize))),
    ];
    let schema = text.schema();
    let all = schema.fields().iter().map(|f| f.name().clone()).zip(text.columns().to_vec());
    let all = all.chain(columns.map(|(name, column)| (name.to_owned(), column)));
    let typed =
        RecordBatch::try_from_iter_with_nullable(all.map(|(name, column)| (name, column, true))).unwrap();
    let file = std::fs::File::create(site.path("typed.arrows")).unwrap();
    let mut writer = arrow::ipc::writer::StreamWriter::try_new(file, &typed.schema()).unwrap();
    writer.write(&typed).unwrap();
    writer.finish().unwrap();

    site.rekek("keygen kv3 --secrets secrets.json").good();
    for format in FORMATS {
        let out = format!("out.{format}");
        site.rekek(&format!("rewrap typed.arrows -o {out} --secrets secrets.json --to kv3")).good();
        site.rekek(&format!("verify {out} --source typed.arrows --secrets secrets.json")).good();
        // Another value is noticed in every form of it.
        for (name, other) in [("number", "1"), ("numbers", "7"), ("amount", "1"), ("yes", "x")] {
            if format != "csv" {
                break;
            }
            let mut spoilt = Table::parse(&site.read(&out));
            assert_ne!(spoilt.get(1, name), other);
            *spoilt.value(1, name) = other.into();
            site.write("spoilt.csv", spoilt.text());
            let line = "verify spoilt.csv --source typed.arrows --secrets secrets.json --to kv3 --json";
            let report = site.rekek(line).json();
            assert_eq!(report["checks"]["other_columns"]["findings"], 1, "{name}");
        }
    }

    // From an Arrow file to another a dictionary stays one, at any depth; but the ciphertext's does not.
    let coded = |array: &ArrayRef| {
        let kind = DataType::Dictionary(Box::new(DataType::Int16), Box::new(DataType::Utf8));
        arrow::compute::cast(array, &kind).unwrap()
    };
    let nested = StructArray::try_from(vec![("note", coded(text.column(0)))]).unwrap();
    let all = schema.fields().iter().map(|f| f.name().clone()).zip(text.columns().iter().map(coded));
    let all = all.chain([("nested".to_owned(), Arc::new(nested) as ArrayRef)]);
    let coded = RecordBatch::try_from_iter_with_nullable(all.map(|(name, column)| (name, column, true)));
    let coded = coded.unwrap();
    let file = std::fs::File::create(site.path("coded.arrow")).unwrap();
    let mut writer = arrow::ipc::writer::FileWriter::try_new(file, &coded.schema()).unwrap();
    writer.write(&coded).unwrap();
    writer.finish().unwrap();
    site.rekek("rewrap coded.arrow -o kept.arrow --secrets secrets.json --to kv3").good();
    site.rekek("verify kept.arrow --source coded.arrow --secrets secrets.json").good();
    let file = std::fs::File::open(site.path("kept.arrow")).unwrap();
    let kept = arrow::ipc::reader::FileReader::try_new(file, None).unwrap().schema();
    for (column, before) in kept.fields().iter().zip(coded.schema().fields()) {
        let ciphertext = column.name().starts_with("encrypted_");
        let expected = if ciphertext { &DataType::Utf8 } else { before.data_type() };
        assert_eq!(column.data_type(), expected, "{}", column.name());
    }

    // Text that is run-end encoded becomes plain in Parquet, and has no place in CSV.
    let ends = Int32Array::from(vec![rows as i32 - 1, rows as i32]);
    let runs = RunArray::<Int32Type>::try_new(&ends, &StringArray::from(vec![Some("a"), None])).unwrap();
    let all = schema.fields().iter().map(|f| f.name().clone()).zip(text.columns().to_vec());
    let all = all.chain([("runs".to_owned(), Arc::new(runs) as ArrayRef)]);
    let coded = RecordBatch::try_from_iter_with_nullable(all.map(|(name, column)| (name, column, true)));
    let coded = coded.unwrap();
    let file = std::fs::File::create(site.path("coded.arrows")).unwrap();
    let mut writer = arrow::ipc::writer::StreamWriter::try_new(file, &coded.schema()).unwrap();
    writer.write(&coded).unwrap();
    writer.finish().unwrap();
    for format in ["parquet", "arrow", "arrows"] {
        let out = format!("coded-out.{format}");
        site.rekek(&format!("rewrap coded.arrows -o {out} --secrets secrets.json --to kv3")).good();
        site.rekek(&format!("verify {out} --source coded.arrows --secrets secrets.json")).good();
    }
    let refused = site.rekek("rewrap coded.arrows -o coded.csv --secrets secrets.json --to kv3");
    assert!(refused.stderr.contains("CSV cannot hold the column runs"), "{}", refused.stderr);
}

#[test]
fn generate_writes_every_format_with_every_compression_it_has() {
    let site = Site::empty();
    site.rekek("keygen kv1 --secrets s.json").good();
    for (format, compressions) in [
        ("csv", &["usual", "none"][..]),
        ("parquet", &["usual", "none", "snappy", "lz4", "zstd"]),
        ("arrow", &["usual", "none", "lz4", "zstd"]),
        ("arrows", &["usual", "none", "lz4", "zstd"]),
    ] {
        for compression in ["usual", "none", "snappy", "lz4", "zstd"] {
            let name = format!("{compression}.{format}");
            let line = format!(
                "generate -o {name} --orgs 700 --secrets s.json --under kv1 --compression {compression}"
            );
            let run = site.rekek(&line);
            if compressions.contains(&compression) {
                run.good();
                assert_eq!(site.rekek(&format!("inspect {name} --json")).json()["rows"], 700);
            } else {
                assert_eq!(run.status, 1, "{line}");
                assert!(run.stderr.starts_with(&format!("rekek: cannot write {name}: ")), "{}", run.stderr);
                assert!(!site.path(&name).exists());
            }
        }
    }
}

#[test]
fn an_arrow_stream_goes_through_as_a_filter() {
    let site = Site::sample();
    site.rekek("rewrap export.csv -o a.arrows --secrets secrets.json --to kv2").good();
    site.rekek("keygen kv3 --secrets secrets.json").good();
    let stream = std::fs::read(site.path("a.arrows")).unwrap();
    let line = "rewrap - -o - --input-format arrows --output-format arrows --secrets secrets.json --to kv3";
    let mut command = site.command(&format!("{line} --manifest m.json"));
    command.stdin(std::fs::File::open(site.path("a.arrows")).unwrap());
    let output = command.output().unwrap();
    assert!(output.status.success());
    std::fs::write(site.path("b.arrows"), &output.stdout).unwrap();
    site.rekek("verify b.arrows --manifest m.json --source a.arrows --secrets secrets.json").good();

    // With a failed row the stream ends without its end marker: no reader takes it for whole.
    let mut command = site.command(&line.replace("--to kv3", "--to kv1"));
    let without_kv2 = site.read("secrets.json").replace("\"kv2\"", "\"other\"");
    site.write("secrets.json", without_kv2);
    let mut child = command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    use std::io::Write as _;
    child.stdin.take().unwrap().write_all(&stream).ok();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    std::fs::write(site.path("c.arrows"), &output.stdout).unwrap();
    let run = site.rekek("inspect c.arrows");
    let cut = "rekek: cannot read c.arrows: the Arrow stream ends without its end marker: it was cut short\n";
    assert_eq!((run.status, run.stderr.as_str()), (1, cut));
}

/// An output of some organizations has nothing of the others, also where the input's dictionaries and
/// views hold the values of all.
#[test]
fn some_organizations_take_nothing_of_the_others_with_them() {
    use arrow::array::*;
    use arrow::datatypes::{DataType, Int32Type};
    use std::sync::Arc;
    let site = Site::sample();
    let text = rewrapped(&site);
    let ids = text.column(0).as_string::<i32>();
    let selected = ids.value(3).to_owned();
    let notes: ArrayRef =
        Arc::new(ids.iter().map(|id| Some(format!("a note about {}", id?))).collect::<StringArray>());
    let coded = |array: &ArrayRef| {
        let kind = DataType::Dictionary(Box::new(DataType::Int16), Box::new(DataType::Utf8));
        arrow::compute::cast(array, &kind).unwrap()
    };
    let viewed = |array: &ArrayRef| arrow::compute::cast(array, &DataType::Utf8View).unwrap();
    let nested: ArrayRef =
        Arc::new(StructArray::try_from(vec![("coded", coded(&notes)), ("viewed", viewed(&notes))]).unwrap());
    let ends = Int32Array::from_iter_values(1..=ids.len() as i32);
    let runs = RunArray::<Int32Type>::try_new(&ends, &coded(&notes)).unwrap();
    for form in [&coded as &dyn Fn(&ArrayRef) -> ArrayRef, &viewed] {
        let names = text.schema().fields().iter().map(|f| f.name().clone()).collect::<Vec<_>>();
        let all = names.into_iter().zip(text.columns().iter().map(form));
        let runs: ArrayRef = Arc::new(runs.clone());
        let more = [("note", form(&notes)), ("nested", Arc::clone(&nested)), ("runs", runs)];
        let all = all.chain(more.map(|(name, column)| (name.to_owned(), column)));
        let all = all.map(|(name, column)| (name, column, true));
        let all = RecordBatch::try_from_iter_with_nullable(all).unwrap();
        let create = |name| std::fs::File::create(site.path(name)).unwrap();
        let mut file = arrow::ipc::writer::FileWriter::try_new(create("all.arrow"), &all.schema()).unwrap();
        file.write(&all).unwrap();
        file.finish().unwrap();
        let mut stream =
            arrow::ipc::writer::StreamWriter::try_new(create("all.arrows"), &all.schema()).unwrap();
        stream.write(&all).unwrap();
        stream.finish().unwrap();
        for (from, to) in FORMATS[2..].iter().flat_map(|from| FORMATS[1..].iter().map(move |to| (from, to))) {
            let line = format!(
                "rewrap all.{from} -o some.{to} --compression none --secrets secrets.json --to kv3 --org {selected} --force"
            );
            site.rekek("keygen kv3 --secrets secrets.json");
            site.rekek(&line).good();
            site.rekek(&format!("verify some.{to} --source all.{from} --secrets secrets.json")).good();
            let bytes = std::fs::read(site.path(&format!("some.{to}"))).unwrap();
            let has = |what: &str| bytes.windows(what.len()).any(|bytes| bytes == what.as_bytes());
            assert!(has(&format!("a note about {selected}")), "{from} to {to}");
            for other in ids.iter().flatten().filter(|id| *id != selected) {
                assert!(!has(&format!("a note about {other}")), "{from} to {to} has a note about {other}");
            }
        }
    }
}
