"""What tests/foreign_tools.rs has pyarrow and DuckDB do.

usage: foreign_tools.py make FOLDER      write tables into the folder
       foreign_tools.py filter REKEK SAMPLE FOLDER
                                        stream the sample site from DuckDB through `rekek rewrap - -o -` to pyarrow
       foreign_tools.py odd REKEK SAMPLE FOLDER
                                        re-wrap the sample site with columns that are seldom met beside it
       foreign_tools.py compare < PAIRS  each line: a file, a tab, a file that should have the same table

`compare` reads the second file with pyarrow and with DuckDB, prints a line for each difference and
exits 1 if there is one.
"""

import base64
import datetime
import decimal
import pathlib
import subprocess
import sys
import threading

try:
    import duckdb
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.feather
    import pyarrow.parquet as pq
    import pyarrow.parquet.encryption as pe
except ImportError as e:
    sys.exit(f"{sys.executable} lacks {e.name}: install pyarrow and duckdb there, or name another in REKEK_PYTHON")

ROWS = 1500
CIPHERTEXT = ["encrypted_signing_key_1", "encrypted_signing_key_2", "encrypted_auth_method_config"]


def texts(column):
    odd = ["", None, 'a "quoted", text', "two\r\nlines", "\u00e9 \U0001f511", " ", "x" * 5000]
    value = lambda i: odd[i % 7] if i % 50 < 7 else f"{column} {i} " * (i % 40)
    return pa.array([value(i) for i in range(ROWS)], pa.string())


def table(text, with_others):
    ids = pa.array([f"org-{i:05}" for i in range(ROWS)], pa.string())
    columns = {"organization_id": ids.cast(text)} | {name: texts(name).cast(text) for name in CIPHERTEXT}
    if with_others:
        each = lambda value, kind: pa.array([None if i % 11 == 0 else value(i) for i in range(ROWS)], kind)
        at = lambda i: datetime.datetime(2024, 2, 29, 12, 34, 56) + datetime.timedelta(microseconds=i * 1000003)
        columns |= {
            "flag": each(lambda i: i % 2 == 0, pa.bool_()),
            "whole": each(lambda i: i - 1000, pa.int32()),
            "float": each(lambda i: i / 7, pa.float64()),
            "price": each(lambda i: decimal.Decimal(i) / 100, pa.decimal128(12, 2)),
            "day": each(lambda i: at(i).date(), pa.date32()),
            "moment": each(at, pa.timestamp("us", "UTC")),
            "kind": each(lambda i: "abc"[i % 3], pa.string()).dictionary_encode(),
        }
    if with_others == "nested":
        columns |= {
            "list": each(lambda i: [i, None], pa.list_(pa.int64())),
            "struct": each(lambda i: {"a": i, "b": str(i)}, pa.struct({"a": pa.int64(), "b": pa.string()})),
            "binary": each(lambda i: bytes([i % 256]), pa.binary()),
            "seconds": each(at, pa.timestamp("s")),
            "time": each(lambda i: at(i).time(), pa.time32("s")),
            "map": each(lambda i: [("k", i)], pa.map_(pa.string(), pa.int64())),
        }
    made = pa.table(columns)
    fields = [f.with_metadata({"field": f.name}) for f in made.schema]
    return pa.table(made.columns, pa.schema(fields, {"table": "made by pyarrow"}))


def null_lists():
    """Columns of nulls, spelled in both ways. Within them stand arrays without values, whose offsets pyarrow leaves
    with a length that is no whole number of them."""
    kinds = {
        "list": pa.list_(pa.large_string()),
        "list of lists": pa.list_(pa.large_list(pa.int64())),
        "map": pa.map_(pa.large_string(), pa.large_binary()),
        "struct": pa.struct({"a": pa.list_(pa.large_binary()), "b": pa.large_string()}),
        "list of structs": pa.list_(pa.struct({"a": pa.large_list(pa.large_string())})),
    }
    values = {
        "list": [["a", None], None],
        "list of lists": [[[1], None, []], []],
        "map": [[("k", b"v")], []],
        "struct": [{"a": [b"v"], "b": "b"}, None],
        "list of structs": [[{"a": ["a"]}], [{"a": None}]],
    }
    texts = table(pa.string(), False)
    nulls = texts
    for name, kind in kinds.items():
        nulls = nulls.append_column(name, pa.nulls(ROWS, kind))
    filled = texts.slice(0, 2)
    for name, kind in kinds.items():
        filled = filled.append_column(name, pa.array(values[name], kind))
    return {"nulls": nulls, "concat": pa.concat_tables([texts, filled, texts], promote_options="default")}


def dictionaries():
    """Columns with dictionaries: of text and of numbers, within lists, structs and maps, with few keys, ordered."""
    texts = pa.array([None if i % 11 == 0 else "abc"[i % 3] for i in range(ROWS)])
    texts = texts.dictionary_encode().cast(pa.dictionary(pa.int8(), pa.string(), ordered=True))
    numbers = pa.array([None if i % 13 == 0 else i % 100 - 50 for i in range(ROWS)])
    columns = {
        "texts": texts,
        "numbers": numbers.dictionary_encode().cast(pa.dictionary(pa.uint16(), pa.int64())),
        "list": pa.ListArray.from_arrays(pa.array([i - i % 2 for i in range(ROWS + 1)]), texts),
        "struct": pa.StructArray.from_arrays([texts], fields=[pa.field("x", texts.type)]),
        "map": pa.MapArray.from_arrays(pa.array(range(ROWS + 1)), pa.array(range(ROWS)), texts),
    }
    t = table(pa.string(), False)
    for name, column in columns.items():
        t = t.append_column(name, column)
    return t


def make(folder):
    for codec in ["uncompressed", "zstd"]:
        path = folder / f"dictionaries-{codec}.feather"
        pyarrow.feather.write_feather(dictionaries(), path, chunksize=700, compression=codec)
    pyarrow.feather.write_feather(dictionaries().slice(0, 0), folder / "dictionaries-empty.feather")
    for name, t in null_lists().items():
        for codec in ["uncompressed", "lz4"]:
            pyarrow.feather.write_feather(t, folder / f"null-lists-{name}-{codec}.feather", compression=codec)
        with pa.ipc.new_stream(folder / f"null-lists-{name}.arrows", t.schema) as writer:
            writer.write_table(t)
    for name, text in {"string": pa.string(), "large": pa.large_string(), "view": pa.string_view()}.items():
        t = table(text, "nested" if name == "string" else True)
        pq.write_table(t, folder / f"{name}.parquet", row_group_size=600, store_schema=True)
        pyarrow.feather.write_feather(t, folder / f"{name}.feather", chunksize=800)
        with pa.ipc.new_stream(folder / f"{name}.arrows", t.schema) as writer:
            writer.write_table(t, max_chunksize=400)
    coded = table(pa.dictionary(pa.int32(), pa.string()), False)
    pq.write_table(coded, folder / "dictionary.parquet")
    with pa.ipc.new_stream(folder / "dictionary.arrows", coded.schema) as writer:
        writer.write_table(coded, max_chunksize=499)
    pyarrow.csv.write_csv(table(pa.string(), False), folder / "pyarrow.csv")
    db = duckdb.connect()
    db.register("t", table(pa.string(), True))
    for codec in ["uncompressed", "snappy", "zstd", "gzip", "lz4"]:
        db.execute(f"copy t to '{folder}/duckdb-{codec}.parquet' (format parquet, compression {codec})")
    db.execute(f"copy t to '{folder}/duckdb-v2.parquet' (format parquet, parquet_version v2)")
    db.execute(f"copy (select {', '.join(['organization_id'] + CIPHERTEXT)} from t) to '{folder}/duckdb.csv' (header)")


def decoded(kind):
    """The type without dictionaries."""
    if pa.types.is_dictionary(kind):
        return kind.value_type
    if pa.types.is_map(kind):
        return pa.map_(decoded(kind.key_type), decoded(kind.item_type))
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(decoded(kind.value_type)))
    if pa.types.is_struct(kind):
        return pa.struct([f.with_type(decoded(f.type)) for f in kind])
    return kind


def plain(t):
    """The table without dictionaries and in one text type, in one chunk."""

    def column(c):
        if decoded(c.type) != c.type:
            c = c.cast(decoded(c.type))
        if pa.types.is_large_string(c.type) or pa.types.is_string_view(c.type):
            c = c.cast(pa.string())
        return c

    return pa.table({n: column(t[n]) for n in t.column_names}).combine_chunks()


def read(path):
    match path.suffix:
        case ".csv":
            as_text = {n: pa.string() for n in pyarrow.csv.open_csv(path, parse_options=PARSE).schema.names}
            options = pyarrow.csv.ConvertOptions(column_types=as_text, strings_can_be_null=True, null_values=[""])
            return pyarrow.csv.read_csv(path, parse_options=PARSE, convert_options=options)
        case ".parquet":
            return pq.read_table(path)
        case ".arrow" | ".feather":
            return pa.ipc.open_file(path).read_all()
        case ".arrows":
            return pa.ipc.open_stream(path).read_all()


PARSE = pyarrow.csv.ParseOptions(newlines_in_values=True)


def by_duckdb(path):
    db = duckdb.connect()
    db.execute("set timezone = 'UTC'")
    if path.suffix == ".csv":
        return db.sql(f"from read_csv('{path}', header=true, all_varchar=true, strict_mode=true)").to_arrow_table()
    if path.suffix == ".parquet":
        return db.sql(f"from read_parquet('{path}')").to_arrow_table()
    t = read(path)
    return db.sql("from t").to_arrow_table()


def in_csv(t):
    """The table as CSV has it: all text, nothing empty. DuckDB spells as PostgreSQL does, but for these."""
    db = duckdb.connect()
    db.execute("set timezone = 'UTC'")
    db.register("t", t)

    def spelled(f):
        name = f'"{f.name}"'
        if pa.types.is_boolean(f.type):
            return f"case {name} when true then 't' when false then 'f' end as {name}"
        if pa.types.is_float64(f.type):
            # DuckDB writes 1.0 where PostgreSQL writes 1.
            return f"regexp_replace({name}::varchar, '\\.0$', '') as {name}"
        return f"nullif({name}::varchar, '') as {name}"

    return db.sql(f"select {', '.join(map(spelled, t.schema))} from t").to_arrow_table()


IN_PARQUET = {pa.timestamp("s"): pa.timestamp("ms"), pa.time32("s"): pa.time32("ms")}


def differences(before, after):
    expected, got = plain(read(before)), plain(read(after))
    if before.suffix == ".csv" or after.suffix == ".csv":
        expected, got = in_csv(expected), in_csv(got)
    else:
        old, new = read(before).schema, read(after).schema
        for key, value in (old.metadata or {}).items():
            if (new.metadata or {}).get(key) != value:
                yield f"metadata {key}"
        for f in old:
            for key, value in (f.metadata or {}).items():
                if (new.field(f.name).metadata or {}).get(key) != value:
                    yield f"metadata {key} of {f.name}"
            kind = new.field(f.name).type
            # Parquet has no seconds; dictionaries may be decoded, but not from an Arrow file to another.
            may_decode = not {before.suffix, after.suffix} <= {".arrow", ".feather"}
            if kind not in (f.type, IN_PARQUET.get(f.type)) and not (may_decode and decoded(kind) == decoded(f.type)):
                yield f"type of {f.name}: {f.type} became {kind}"
    if got.column_names != expected.column_names:
        yield "columns"
        return
    for name in expected.column_names:
        column = got[name]
        if IN_PARQUET.get(expected[name].type) == column.type:
            column = column.cast(expected[name].type)
        if not column.equals(expected[name]):
            yield f"pyarrow: column {name}"
    of_duckdb = plain(by_duckdb(after))
    if after.suffix == ".csv":
        of_duckdb = in_csv(of_duckdb)
    for name in expected.column_names:
        theirs = of_duckdb[name]
        if theirs.type != expected[name].type and not pa.types.is_nested(theirs.type):
            theirs = theirs.cast(expected[name].type)
        if theirs.to_pylist() != expected[name].to_pylist():
            yield f"DuckDB: column {name}"


def stream_through(rekek, sample, folder):
    """DuckDB reads the export and streams it; rekek re-wraps; pyarrow reads what comes out; DuckDB judges it."""
    database = duckdb.connect()
    # Columns of other types go along, in batches of a few rows.
    source = database.sql(
        f"select *, row_number() over () as number, timestamp '2026-01-01' as moment from read_csv('{sample}/export.csv', "
        "all_varchar = true)"
    ).to_arrow_table()
    command = [rekek, "rewrap", "-", "-o", "-", "--input-format", "arrows", "--output-format", "arrows"]
    command += ["--secrets", f"{sample}/secrets.json", "--to", "kv2", "--manifest", f"{folder}/manifest.json"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def feed():
        with child.stdin, pa.ipc.new_stream(child.stdin, source.schema) as writer:
            writer.write_table(source, max_chunksize=40)

    feeder = threading.Thread(target=feed)
    feeder.start()
    with pa.ipc.open_stream(child.stdout) as reader:
        output = reader.read_all()
    feeder.join()
    said = child.stderr.read().decode()
    if child.wait() != 0:
        sys.exit(said)
    counts = database.execute(
        """
        select count(*),
               count(*) filter (o.number = s.number and o.moment = s.moment and o.issuer is not distinct from s.issuer),
               count(o.encrypted_signing_key_1),
               count(*) filter (o.source_sha256_signing_key_1 = sha256(s.encrypted_signing_key_1)),
               count(*) filter (decode(from_base64(trim(o.encrypted_signing_key_1))) like '%"key_id":"kv2"%')
        from output o join source s using (organization_id)
        """
    ).fetchone()
    rows, same, present, digests, renamed = counts
    if not (rows == same == 150 and present == digests == renamed > 100):
        sys.exit(f"{counts}")


def odd_columns(rekek, sample, folder):
    """Columns that came back changed, or not at all, when somebody looked: each kept now, or refused by its name."""
    site = pa.csv.read_csv(
        f"{sample}/export.csv",
        convert_options=pa.csv.ConvertOptions(strings_can_be_null=True, column_types=dict.fromkeys(CIPHERTEXT, pa.string())),
    )
    site = site.select(["organization_id", *CIPHERTEXT, "signing_key_public_1", "signing_key_public_2", "issuer"])
    rows = site.num_rows
    (folder / "secrets.json").write_bytes(pathlib.Path(f"{sample}/secrets.json").read_bytes())
    (folder / "secrets.json").chmod(0o600)
    keys = ["--secrets", "secrets.json"]

    def run(*arguments):
        ran = subprocess.run([rekek, *map(str, arguments)], cwd=folder, capture_output=True, text=True)
        return ran.returncode, ran.stderr

    def must(what, ran):
        if ran[0] != 0:
            sys.exit(f"{what}: status {ran[0]}: {ran[1]}")

    def rewrap(name, output):
        return run("rewrap", name, "-o", output, *keys, "--to", "kv2", "--quiet", "--force")

    def refused(name, message):
        ran = rewrap(name, "refused.parquet")
        if ran != (1, f"rekek: cannot read {name}: {message}\n"):
            sys.exit(f"{name}: {ran}")

    each = lambda values: [values[i % len(values)] for i in range(rows)]
    coded = lambda values: pa.DictionaryArray.from_arrays(pa.array(each(range(len(values))), pa.int8()), values)
    cents = [decimal.Decimal("1.25"), decimal.Decimal("-3.50")]
    no_parquet = ["numbers", "bytes", "structs", "texts"]
    columns = {
        "bools": coded(pa.array([True, False])),
        "short": coded(pa.array(cents, pa.decimal128(5, 2))),
        "long": coded(pa.array(cents, pa.decimal128(20, 2))),
        "halves": coded(pa.array([0.5, -2.0], pa.float16())),
        "durations": coded(pa.array([1, 2], pa.duration("us"))),
        "moments": coded(pa.array([1000, 2000], pa.timestamp("ns", "Europe/Berlin"))),
        # A null among the values, where no null stands among the places.
        "numbers": coded(pa.array([1, 2, None])),
        "bytes": coded(pa.array([b"1", None])),
        "structs": pa.StructArray.from_arrays([coded(pa.array([True, None]))], ["x"]),
        "texts": pa.StructArray.from_arrays([coded(pa.array(["a", None, "a"]))], ["x"]),
    }
    table = site
    for name, column in columns.items():
        table = table.append_column(name, column)
    # As pandas writes a column in which nothing stands: there are sites without a second key.
    table = table.set_column(
        table.schema.get_field_index(CIPHERTEXT[1]), CIPHERTEXT[1], pa.nulls(rows)
    ).set_column(table.schema.get_field_index("signing_key_public_2"), "signing_key_public_2", pa.nulls(rows))
    # (pyarrow does not write such nulls to Parquet.)
    pq.write_table(table.drop_columns(no_parquet), folder / "odd.parquet")
    with pa.ipc.new_file(folder / "odd.arrow", table.schema) as writer:
        writer.write_table(table)
    for source in ["odd.parquet", "odd.arrow"]:
        for extension in ["parquet", "arrow", "arrows"]:
            output = f"{source}.{extension}"
            must(output, rewrap(source, output))
            must(output, run("inspect", output))
            must(output, run("verify", output, "--source", source, *keys))
            after = read(folder / output)
            for name in (name for name in table.column_names if name not in CIPHERTEXT[0::2]):
                if source == "odd.parquet" and name in no_parquet:
                    continue
                if after[name].to_pylist() != table[name].to_pylist():
                    sys.exit(f"{output}: the column {name} is {after[name].type} and has other values")

    # What DuckDB knows of a column beside its bytes; and what has no place in Arrow.
    database = duckdb.connect()
    database.register("site", site)
    database.execute(f"copy (select *, uuid() as id, '{{}}'::json as doc from site) to '{folder}/ids.parquet'")
    must("ids", rewrap("ids.parquet", "ids-out.parquet"))
    kinds = "select distinct typeof(id), typeof(doc) from read_parquet('{}/{}')"
    found = database.sql(kinds.format(folder, "ids-out.parquet")).fetchall()
    if found != [("UUID", "JSON")]:
        sys.exit(f"{found}")
    same = f"select count(*) from read_parquet('{folder}/ids.parquet') join read_parquet('{folder}/ids-out.parquet') using (id)"
    if database.sql(same).fetchall() != [(rows,)]:
        sys.exit("other ids came back")
    no_place = "which Arrow has no place for; leave it out of the export, or cast it to"
    database.execute(f"copy (select *, interval '1 year' as age from site) to '{folder}/interval.parquet'")
    refused("interval.parquet", f"the column age holds an interval of months, days and milliseconds, {no_place} text")
    moments = each([datetime.datetime(1, 1, 1), datetime.datetime(9999, 12, 31)])
    dated = site.append_column("at", pa.array(moments, pa.timestamp("us")))
    options = {"use_deprecated_int96_timestamps": True}
    pq.write_table(dated, folder / "int96.parquet", store_schema=False, **options)
    refused("int96.parquet", f"the column at holds timestamps of 96 bits, {no_place} a timestamp in microseconds")
    pq.write_table(dated, folder / "told.parquet", **options)
    for output in ["told-out.parquet", "told-out.arrow", "told-out.csv"]:
        must(output, rewrap("told.parquet", output))
    for output in ["told-out.parquet", "told-out.arrow"]:
        if read(folder / output)["at"].to_pylist() != moments:
            sys.exit(f"{output}: other moments")
    first, second = (line for line in (folder / "told-out.csv").read_text().split("\n")[1:3])
    if ",0001-01-01 00:00:00," not in first or ",9999-12-31 00:00:00," not in second:
        sys.exit("other moments in CSV")

    # Encrypted, with its directory and without.
    class Keys(pe.KmsClient):
        def wrap_key(self, key, name):
            return base64.b64encode(key)

        def unwrap_key(self, wrapped, name):
            return base64.b64decode(wrapped)

    factory = pe.CryptoFactory(lambda config: Keys())
    for plain_directory in [False, True]:
        how = pe.EncryptionConfiguration(
            footer_key="k", column_keys={"k": ["issuer"]}, plaintext_footer=plain_directory
        )
        properties = factory.file_encryption_properties(pe.KmsConnectionConfig(), how)
        with pq.ParquetWriter(folder / "secret.parquet", site.schema, encryption_properties=properties) as writer:
            writer.write_table(site)
        where = "the Parquet file's directory: " if plain_directory else "the Parquet file is "
        refused("secret.parquet", f"{where}encrypted, which is not supported; write it without, where the keys may be")


def main():
    match sys.argv[1:]:
        case ["make", folder]:
            make(pathlib.Path(folder))
        case ["filter", rekek, sample, folder]:
            stream_through(rekek, sample, folder)
        case ["odd", rekek, sample, folder]:
            odd_columns(rekek, sample, pathlib.Path(folder))
        case ["compare"]:
            found = 0
            for line in sys.stdin:
                before, after = map(pathlib.Path, line.rstrip("\n").split("\t"))
                for difference in differences(before, after):
                    found += 1
                    print(f"{before.name} -> {after.name}: {difference}")
            sys.exit(1 if found else 0)
        case _:
            sys.exit(__doc__)


main()
