"""Makes the small files of tests/golden/alljoined: rows as Alljoined publishes them, values by a formula.

    pip install pyarrow==26.0.1
    python tests/golden/alljoined.py

Sample i of channel c in row r (counted through both files) is ((131 r + 17 c + 7 i) % 101 - 50) * 1e-6 volts.
"""

import os

import pyarrow as pa
import pyarrow.parquet as pq

CHANNELS, SAMPLES = 2, 140
LISTS = pa.list_(pa.list_(pa.float64()))


def eeg(row, samples=SAMPLES):
    return [[((131 * row + 17 * c + 7 * i) % 101 - 50) * 1e-6 for i in range(samples)] for c in range(CHANNELS)]


def table(rows, kind=LISTS):
    return pa.table({
        "EEG": pa.array([eeg(r) for r in rows], kind),
        "subject_id": pa.array([1 + r % 3 for r in rows], pa.int32()),
        "session": pa.array([1 for _ in rows], pa.int32()),
        "block": pa.array([r // 4 for r in rows], pa.int32()),
        "trial": pa.array([1 + r for r in rows], pa.int32()),
        "73k_id": pa.array([100 + r % 6 for r in rows], pa.int32()),
        "coco_id": pa.array([139 + 1000 * (r % 6) for r in rows], pa.int32()),
        "curr_time": pa.array([0.5 * r for r in rows], pa.float32()),
    })


def main():
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "alljoined")
    os.makedirs(os.path.join(folder, "bad"), exist_ok=True)

    def write(name, table, **options):
        pq.write_table(table, os.path.join(folder, name), **options)

    # As the Hugging Face library writes: Snappy, dictionaries. Row groups of 5, 5 and 2.
    write("train-00000-of-00001.parquet", table(range(12)), row_group_size=5)
    # And otherwise: Zstandard, new pages, single floats.
    singles = pa.list_(pa.list_(pa.float32()))
    write("test-00000-of-00001.parquet", table(range(12, 15), singles), compression="zstd", data_page_version="2.0",
          use_dictionary=False, data_page_size=512)
    bad = {
        "flat": table(range(2)).set_column(0, "EEG", pa.array([[1.0, 2.0], [3.0]], pa.list_(pa.float64()))),
        "none": table(range(2)).drop_columns(["EEG"]),
        "null": table(range(2)).set_column(0, "EEG", pa.array([eeg(0), None], LISTS)),
        "empty": table(range(2)).set_column(0, "EEG", pa.array([[], eeg(1)], LISTS)),
        "ragged": table(range(2)).set_column(0, "EEG", pa.array([eeg(0), [[1.0, 2.0], [3.0]]], LISTS)),
        "nan": table(range(1)).set_column(0, "EEG", pa.array([[[1.0, float("nan")]]], LISTS)),
        "words": table(range(2)).set_column(1, "subject_id", pa.array(["a", "b"])),
        "integers": table(range(1)).set_column(0, "EEG", pa.array([[[1, 2]]], pa.list_(pa.list_(pa.int32())))),
    }
    for name, rows in bad.items():
        write(f"bad/{name}.parquet", rows)


if __name__ == "__main__":
    main()
