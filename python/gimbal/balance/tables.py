"""`python -m gimbal.balance.tables FILE...`: sizes from Parquet and numpy files, as bytes on stdout.

This is how the program `gimbal balance` reads them. Written, all little-endian: "GBTABLE1", uint32 K, uint64 N, per stream a uint32
length and the name in UTF-8, then N * K uint32 rows. Bad input: a message on stderr and exit code 2.
"""

from __future__ import annotations

import struct
import sys
from typing import BinaryIO

from gimbal import UserError
from gimbal.balance.lengths import LengthTable, read_lengths

MAGIC = b"GBTABLE1"


def write_table(table: LengthTable, out: BinaryIO) -> None:
    if table.pairs is not None:
        raise UserError(f"{table.describe(0)}: columns NAME.pairs are read from CSV files only; give a CSV file")
    out.write(MAGIC + struct.pack("<IQ", len(table.names), len(table)))
    for name in table.names:
        encoded = name.encode("utf-8")
        out.write(struct.pack("<I", len(encoded)) + encoded)
    out.write(table.sizes.astype("<u4", copy=False).data)


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: python -m gimbal.balance.tables FILE...", file=sys.stderr)
        return 0 if arguments else 2
    try:
        write_table(read_lengths(arguments), sys.stdout.buffer)
        sys.stdout.buffer.flush()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
