"""Parquet by ranges: pyarrow (AWS's C++ SDK), polars (the object_store crate) and DuckDB (its own HTTP client)."""

import io

import pytest

pyarrow = pytest.importorskip("pyarrow")
import duckdb  # noqa: E402
import duckdb_extension_httpfs  # noqa: E402
import polars  # noqa: E402
import pyarrow.compute  # noqa: E402
import pyarrow.fs  # noqa: E402
import pyarrow.parquet  # noqa: E402

ROWS, GROUP = 400_000, 50_000


@pytest.fixture(scope="module")
def table():
    numbers = pyarrow.array(range(ROWS), pyarrow.int64())
    mixed = pyarrow.array([(number * 2_654_435_761) % 4_294_967_296 for number in range(ROWS)], pyarrow.int64())
    return pyarrow.table({"number": numbers, "mixed": mixed, "name": pyarrow.array([f"row {number}" for number in range(ROWS)])})


@pytest.fixture(scope="module")
def parquet(table):
    out = io.BytesIO()
    pyarrow.parquet.write_table(table, out, row_group_size=GROUP, compression="none", use_dictionary=False)
    return out.getvalue()


@pytest.fixture
def stored(site, bucket, parquet):
    site.s3.put_object(Bucket=bucket, Key="t/rows.parquet", Body=parquet)
    return f"{bucket}/t/rows.parquet"


@pytest.fixture
def arrow(site):
    return pyarrow.fs.S3FileSystem(
        access_key=site.access_key,
        secret_key=site.secret_key,
        region=site.region,
        scheme="http",
        endpoint_override=site.endpoint.split("//")[1],
        force_virtual_addressing=False,
    )


@pytest.fixture
def options(site):
    return {
        "aws_access_key_id": site.access_key,
        "aws_secret_access_key": site.secret_key,
        "aws_region": site.region,
        "aws_endpoint_url": site.endpoint,
        "aws_allow_http": "true",
        "aws_virtual_hosted_style_request": "false",
    }


@pytest.fixture
def duck(site):
    duckdb_extension_httpfs  # installed as a package, so that nothing is fetched at run time
    connection = duckdb.connect(":memory:", config={"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"})
    load(connection)
    host = site.endpoint.split("//")[1]
    connection.execute(
        f"CREATE SECRET (TYPE s3, KEY_ID '{site.access_key}', SECRET '{site.secret_key}', REGION '{site.region}', "
        f"ENDPOINT '{host}', URL_STYLE 'path', USE_SSL false)"
    )
    yield connection
    connection.close()


def load(connection):
    import pathlib

    folder = pathlib.Path(duckdb_extension_httpfs.__file__).parent / "extensions"
    [extension] = folder.rglob("httpfs.duckdb_extension")
    connection.execute(f"LOAD '{extension}'")


def test_arrow_reads(arrow, stored, table, parquet):
    assert arrow.get_file_info(stored).size == len(parquet)
    file = pyarrow.parquet.ParquetFile(arrow.open_input_file(stored))
    assert file.metadata.num_row_groups == ROWS // GROUP
    assert file.read_row_group(3, columns=["mixed"]).column("mixed") == table.column("mixed")[3 * GROUP : 4 * GROUP]
    chosen = pyarrow.parquet.read_table(stored, filesystem=arrow, columns=["name"], filters=[("number", "in", [7, 399_999])])
    assert chosen.column("name").to_pylist() == ["row 7", "row 399999"]
    assert pyarrow.parquet.read_table(stored, filesystem=arrow).equals(table)


def test_arrow_writes(arrow, site, bucket, table):
    """A stream of unknown length: a multipart upload of C++'s SDK."""
    pyarrow.parquet.write_table(table, f"{bucket}/out.parquet", filesystem=arrow, row_group_size=GROUP)
    assert pyarrow.parquet.read_table(f"{bucket}/out.parquet", filesystem=arrow).equals(table)
    with arrow.open_output_stream(f"{bucket}/raw") as out:
        for piece in range(12):
            out.write(bytes([piece]) * 1_000_000)
    assert arrow.get_file_info(f"{bucket}/raw").size == 12_000_000
    assert arrow.open_input_file(f"{bucket}/raw").read_at(4, 4_999_998) == b"\x04\x04\x05\x05"
    arrow.delete_file(f"{bucket}/raw")
    assert arrow.get_file_info(f"{bucket}/raw").type == pyarrow.fs.FileType.NotFound


def test_polars_reads(options, stored, table):
    frame = polars.scan_parquet(f"s3://{stored}", storage_options=options)
    assert frame.select(polars.len()).collect().item() == ROWS
    chosen = frame.filter(polars.col("number").is_in([7, 399_999])).select("name").collect()
    assert chosen["name"].to_list() == ["row 7", "row 399999"]
    assert frame.select(polars.col("mixed").sum()).collect().item() == pyarrow.compute.sum(table.column("mixed")).as_py()


def test_polars_writes(options, bucket, table):
    frame = polars.from_arrow(table)
    frame.lazy().sink_parquet(f"s3://{bucket}/out.parquet", storage_options=options, compression="uncompressed")
    assert polars.read_parquet(f"s3://{bucket}/out.parquet", storage_options=options).equals(frame)


def test_duckdb_reads(duck, stored):
    source = f"read_parquet('s3://{stored}')"
    assert duck.execute(f"SELECT count(*), min(number), max(number) FROM {source}").fetchone() == (ROWS, 0, ROWS - 1)
    assert duck.execute(f"SELECT name FROM {source} WHERE number IN (7, 399999) ORDER BY number").fetchall() == [("row 7",), ("row 399999",)]


def test_duckdb_writes(duck, bucket):
    """COPY TO is always a multipart upload."""
    duck.execute(f"COPY (SELECT range AS number, 'row ' || range AS name FROM range({ROWS})) TO 's3://{bucket}/out.parquet' (FORMAT parquet)")
    found = duck.execute(f"SELECT count(*), sum(number), max(name) FROM read_parquet('s3://{bucket}/out.parquet')").fetchone()
    assert found == (ROWS, ROWS * (ROWS - 1) // 2, "row 99999")
    assert duck.execute(f"SELECT file FROM glob('s3://{bucket}/*.parquet')").fetchall() == [(f"s3://{bucket}/out.parquet",)]
