#!/bin/bash
# A full disk, and data that cannot be written to: notebook 02 on a disk of 3 MB, then with room, then the same on an ordinary disk.
#
#     sudo PATH="$PWD/.venv/bin:$PATH" bash benchmarks/disk_rehearsal.sh     # mounts a tmpfs
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d -t disk_rehearsal.XXXXXX)
export PYTHONPATH=$PWD OMP_NUM_THREADS=1
mkdir "$work/disk" "$work/data"
python -m t4e_utils.competitions.brain_tumor.phantoms "$work/phantoms" --size 32 --n-brats 4 --n-overlap 1 --n-train 6 --n-test 2 --n-jobs 1 2> /dev/null
mount --bind "$work/phantoms" "$work/data"
mount -o remount,bind,ro "$work/data"
mount -t tmpfs -o size=3m none "$work/disk"
trap 'umount "$work/disk" "$work/data"; rm -r "$work"' EXIT
cut_slices() {
    python -m snakemake "$1/seg/slices.parquet" --cores 1 --configfile benchmarks/tiny.yaml --config run_dir="$1" rsna_dir="$work/data/rsna" brats_dir="$work/data/brats21"
}

head -c 2900000 /dev/zero > "$work/disk/ballast"
cut_slices "$work/disk/run" > "$work/full.txt" 2>&1 && { echo "It should have failed."; exit 1; }
sed -n 's/^The disk of .*run is full/The disk of run_dir is full/p' "$work/full.txt"
echo "slices there: $(find "$work/disk/run" -name '*.png' | wc -l); temporary files left: $(find "$work/disk/run" -name '.*.tmp' | wc -l); tables: $(find "$work/disk/run" -name '*.parquet' | wc -l)"
python - "$work/disk/run" << 'END'
import sys
from pathlib import Path

from t4e_utils.sampling.pictures import read_picture

found = [read_picture(path).shape for path in Path(sys.argv[1]).rglob("*.png")]
print(f"each of the {len(found)} is whole")
END

rm "$work/disk/ballast"
cut_slices "$work/disk/run" > "$work/again.txt" 2>&1 || { tail -n 20 "$work/again.txt"; exit 1; }
cut_slices "$work/ordinary" > "$work/ordinary.txt" 2>&1
diff -r "$work/disk/run/seg" "$work/ordinary/seg" && echo "with room it goes on, to the same files as on an ordinary disk; the data was on a read-only mount all the time"
