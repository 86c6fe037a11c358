"""How far is the inference path from the bare time of its networks, and from the plain path?

And is a coarse pass as good as an exact one?

    python -m benchmarks.inference --slices 600
    python -m benchmarks.inference --slices 0 --models runs/demo --phantoms 6

First: one patient, four series of 512 x 512 slices, networks of full size with random weights.
Behind the segmenter the masks are planted (bright is tumour), so that a realistic share of slices
is kept; every network is computed in full. ours: DICOM folder to probability. limit: the forward
passes alone, on as many slices, at the precision and batch size that are best here. team: the plain
path, written for comparison: fp32, every slice of every chunk through the backbone, kept slices
through .npy files. The three take turns, series by series. Second: the Jaccard index of the slices
kept with and without a coarse pass, for each patient of data sets, with a trained segmenter. Series
of thick slices are segmented exactly whatever the stride, so phantoms with slices of 1.4 mm are
drawn too.
"""

from __future__ import annotations

import argparse
import multiprocessing
import platform
import resource
import tempfile
import time
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from t4e_utils.competitions.brain_tumor import data as brain_tumor
from t4e_utils.competitions.brain_tumor.classifier import ClassifierSettings
from t4e_utils.competitions.brain_tumor.folders import find_series
from t4e_utils.competitions.brain_tumor.phantoms import PhantomConfig, write_phantoms
from t4e_utils.competitions.brain_tumor.prediction import Predictor
from t4e_utils.competitions.brain_tumor.rules import SeriesRule
from t4e_utils.competitions.brain_tumor.segmenter import SegmenterSettings
from t4e_utils.competitions.brain_tumor.sequences import Preparer
from t4e_utils.competitions.brain_tumor.submission import classifier_cards, rule_of
from t4e_utils.learning.devices import autocast, pick_device
from t4e_utils.learning.networks import build, load_network, with_precision
from t4e_utils.prediction.sequences import SequenceReading
from t4e_utils.sampling.chunks import chunk_bounds
from t4e_utils.sampling.pictures import stack_channels
from t4e_utils.sampling.squares import Square, from_square, to_square
from t4e_utils.scans.dicom_writing import write_dicom_series
from t4e_utils.scans.geometry import display_affine
from t4e_utils.scans.intensity import window_to_uint8
from t4e_utils.scans.nifti import read_nifti
from t4e_utils.scans.reading import read_series
from t4e_utils.scans.volume import Volume
from t4e_utils.tables.run import versions

RULE, VIEWS = SeriesRule(), ("zoom_1.2",)
SETTINGS = (
    SegmenterSettings(is_stretched=True),
    ClassifierSettings(lstm_hidden=128, is_stretched=True),
)
SQUARE = Square(224, is_stretched=True, zoom=1.2)
TUMOUR = (0.4, 0.7)  # of the series, from first to last slice with tumour
CANDIDATES = [
    (precision, batch_size) for precision in ("fp32", "bf16", "fp16") for batch_size in (4, 8, 64)
]


class Planted(nn.Module):
    """Computes a segmenter in full, and answers that what is bright is tumour."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network, self.recipe, self.n_slices = network, network.recipe, 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of planted masks."""
        self.n_slices += len(images)
        grey = images / 255
        return torch.cat([grey - 0.6, grey - 0.9], dim=1) * 100 + 0 * self.network(images)


def write_patient(folder, n_slices, n_series):
    """Series of a grey head with a bright disc in the slices between `TUMOUR`."""
    row, column = np.ogrid[:512, :512]
    head, disc = (
        ((row - 256) ** 2 + (column - 256) ** 2 <= 200**2),
        ((row - 230) ** 2 + (column - 300) ** 2 <= 60**2),
    )
    noise = np.random.default_rng(0).integers(0, 40, (512, 512)).astype(np.uint16)
    rows = []
    for name in brain_tumor.CONTRASTS[:n_series]:
        volume = np.repeat((head * (300 + noise))[None], n_slices, axis=0).astype(np.uint16)
        volume[int(TUMOUR[0] * n_slices) : int(TUMOUR[1] * n_slices), disc] = 1000
        write_dicom_series(
            Volume(volume, (1.0, 0.5, 0.5), display_affine("axial", (1.0, 0.5, 0.5))),
            folder / name,
            patient_id="00001",
            series_description=name,
        )
        rows.append({"patient_id": "00001", "series": name, "path": str(folder / name)})
    return pd.DataFrame(rows)


def networks(device):
    torch.manual_seed(0)
    segmenter, classifier = (build(own.recipe((0, 100), "fp32")) for own in SETTINGS)
    return tuple(
        model.to(device, memory_format=torch.channels_last).eval()
        for model in (Planted(segmenter), classifier)
    )


def timed(device, function, *arguments):
    """Seconds and processor seconds that a call takes, and its result.

    The latter say more where others use the machine.
    """
    start, worked = time.perf_counter(), time.process_time()
    result = function(*arguments)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return np.array([time.perf_counter() - start, time.process_time() - worked]), result


@torch.inference_mode()
def passes(segmenter, classifier, n_segmented, n_embedded, device, precision, batch_size):
    todo = (segmenter.network, n_segmented, 1), (classifier.embed, n_embedded, 3)
    with autocast(device, precision):
        for network, n, n_channels in todo:
            shape = batch_size, n_channels, SQUARE.size, SQUARE.size
            images = torch.zeros(shape, dtype=torch.uint8, device=device)
            for start in range(0, n, batch_size):
                network(images[: min(batch_size, n - start)])


def best_setting(segmenter, classifier, device):
    """Precision and batch size with the shortest time a slice."""
    found, clock = {}, int(device.type == "cpu")
    for precision, batch_size in CANDIDATES:
        if (precision == "fp16" or batch_size > 8) and device.type == "cpu":
            continue
        timed(device, passes, segmenter, classifier, 1, 1, device, precision, batch_size)
        found[precision, batch_size] = (
            timed(
                device,
                passes,
                segmenter,
                classifier,
                batch_size,
                batch_size,
                device,
                precision,
                batch_size,
            )[0][clock].item()
            / batch_size
        )
    print(
        "seconds a slice:",
        {
            f"{precision}, {batch_size} a pass": round(seconds, 3)
            for (precision, batch_size), seconds in found.items()
        },
    )
    return min(found, key=found.get)


def ours(series, segmenter, classifier, rule, precision, batch_size):
    preparer = Preparer(with_precision(segmenter, precision), rule, batch_size)
    classifiers = {name: [with_precision(classifier, precision)] for name in series["series"]}
    reading = SequenceReading(rule.chunk_stride, VIEWS, batch_size)
    return Predictor(preparer, classifiers, reading).predict_all(series, n_readers=2)[0]


@torch.inference_mode()
def team(series, segmenter, classifier, folder, device, batch_size):
    """The plain path: nothing is computed once that the chunks ask for again."""
    for row in series.itertuples():
        volume = read_series(row.path).array.astype(np.float32)
        image = ((volume - volume.min()) / (volume.max() - volume.min()) * 255).astype(np.uint8)
        kept = []
        for start in range(0, len(image), batch_size):
            part = image[start : start + batch_size]
            squares = torch.from_numpy(to_square(part, SQUARE)).unsqueeze(1).to(device)
            maps = segmenter(squares).sigmoid().cpu().numpy()
            masks = from_square(maps.reshape(-1, *maps.shape[2:]), part.shape[1:], SQUARE) > 0.5
            masks = masks.reshape(*maps.shape[:2], *part.shape[1:])
            for k, (slice_, mask) in enumerate(zip(part, masks, strict=True)):
                if mask[0].sum() > RULE.min_tumour_share * (slice_ > 0).sum():
                    kept.append(folder / f"{row.series}{start + k:03d}.npy")
                    np.save(kept[-1], stack_channels(slice_, mask))
        chunks, length = [], RULE.sequence_length
        for first, last in chunk_bounds(len(kept), length=length, stride=RULE.chunk_stride):
            pictures = [to_square(np.load(path)[None], SQUARE) for path in kept[first:last]]
            frames = np.zeros((length, 3, SQUARE.size, SQUARE.size), np.uint8)
            frames[: last - first] = np.concatenate(pictures).transpose(0, 3, 1, 2)
            embeddings = classifier.embed(torch.from_numpy(frames).to(device))
            chunks.append(float(classifier.classify(embeddings[None]).sigmoid()))
    return float(np.mean(chunks))


def peak_memory(n_slices, precision, batch_size, answer):
    with tempfile.TemporaryDirectory() as folder:
        series = write_patient(Path(folder), n_slices, 1)
        ours(series, *networks(torch.device("cpu")), RULE, precision, batch_size)
    answer.put(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)


def time_one_patient(n_slices, n_series, stride, n_memory):
    device = pick_device()
    segmenter, classifier = networks(device)
    precision, batch_size = best_setting(segmenter, classifier, device)
    seconds = dict.fromkeys(("limit", "ours", "ours, coarse to fine", "team"), np.zeros(2))
    passed = dict.fromkeys(("ours", "ours, coarse to fine"), 0)
    with tempfile.TemporaryDirectory() as folder:
        series = write_patient(Path(folder), n_slices // n_series, n_series)
        for _, one in series.groupby("series"):
            for name, step in (("ours", 1), ("ours, coarse to fine", stride)):
                segmenter.n_slices = 0
                took, found = timed(
                    device,
                    ours,
                    one,
                    segmenter,
                    classifier,
                    replace(RULE, segmentation_stride=step),
                    precision,
                    batch_size,
                )
                seconds[name] = seconds[name] + took
                passed[name] += segmenter.n_slices
                if step == 1:
                    n_passed = (segmenter.n_slices, int(found["n_kept"][0]) + 1)
                    seconds["limit"] = (
                        seconds["limit"]
                        + timed(
                            device,
                            passes,
                            segmenter,
                            classifier,
                            *n_passed,
                            device,
                            precision,
                            batch_size,
                        )[0]
                    )
            seconds["team"] = (
                seconds["team"]
                + timed(device, team, one, segmenter, classifier, Path(folder), device, batch_size)[
                    0
                ]
            )
    table = pd.DataFrame(seconds, index=["seconds", "processor seconds"]).T
    for column in list(table) if device.type == "cpu" else ["seconds"]:
        table[f"it / limit, {column}"], table[f"team / it, {column}"] = (
            table[column] / table.loc["limit", column],
            table.loc["team", column] / table[column],
        )
    print(table.T.round(2).to_string())
    print(
        f"slices segmented: {passed['ours']} exact, {passed['ours, coarse to fine']} with "
        f"segmentation_stride {stride}; best here: {precision}, {batch_size} slices a pass"
    )
    print(
        f"{n_slices} slices of 512 x 512 in {n_series} series on {device}; "
        f"{60 / seconds['ours'][0]:.2f} patients of this size a minute exactly, "
        f"{60 / seconds['ours, coarse to fine'][0]:.2f} coarse to fine"
    )
    if n_memory and device.type == "cpu":
        context = multiprocessing.get_context("spawn")
        answer = context.Queue()
        process = context.Process(
            target=peak_memory, args=(n_memory, precision, batch_size, answer)
        )
        process.start()
        peak = answer.get()
        process.join()
        print(
            f"peak memory of a process that predicts one series of {n_memory} slices: "
            f"{peak:.2f} GiB"
        )


def series_of(rsna):
    found = pd.concat(
        [
            find_series(rsna, split=split, series=brain_tumor.CONTRASTS)
            for split in ("train", "test")
            if (rsna / split).is_dir()
        ]
    )
    for row in found.itertuples():
        yield row.patient_id, row.series, lambda path=row.path: read_series(path)


def volumes_of(brats):
    for row in brain_tumor.brats_files(brats).itertuples():
        if row.series != "labels":
            yield (
                row.patient_id,
                row.series,
                lambda path=row.path: read_nifti(path).to_plane("axial"),
            )


def compare_kept(models, name, items, strides):
    """Jaccard index of the kept slices against the exact path, of all series of a patient."""
    cards = classifier_cards(models, series=brain_tumor.CONTRASTS)
    rule = replace(rule_of(cards), series_weights={})  # which takes every slice
    segmenter = load_network(models / cards[0]["provenance"]["segmenter"], device=pick_device())
    passed, kept, spacings, n_slices = [], {}, [], dict.fromkeys((1, *strides), 0)
    segmenter.register_forward_pre_hook(lambda _, given: passed.append(len(given[0])))
    for patient, series, read in items:
        volume = read()
        image = window_to_uint8(volume.array, segmenter.recipe.percentiles)
        spacings.append(volume.spacing_mm[0])
        for stride in (1, *strides):
            passed.clear()
            preparer = Preparer(segmenter, replace(rule, segmentation_stride=stride))
            found = preparer.prepare_series(volume, image)
            n_slices[stride] += sum(passed)
            kept.setdefault((stride, patient), set()).update(
                (series, index) for index in found.kept.tolist()
            )
    patients = sorted({patient for _, patient in kept})
    rows = []
    for stride in strides:
        found = [
            len(kept[stride, patient] & kept[1, patient])
            / len(kept[stride, patient] | kept[1, patient])
            for patient in patients
        ]
        share = n_slices[stride] / n_slices[1]
        rows.append(
            {
                "stride": stride,
                "patients": len(found),
                "smallest": min(found),
                "mean": np.mean(found),
                "below 0.99": sum(value < 0.99 for value in found),
                "share segmented": share,
            }
        )
    print(
        f"Jaccard index of the kept slices: {name}, {len(spacings)} series, slices "
        f"{min(spacings):.1f} to {max(spacings):.1f} mm apart"
    )
    print(pd.DataFrame(rows).round(4).to_string(index=False))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--slices",
        type=int,
        default=600,
        help="of the patient that is timed, over all series; 0: none is timed",
    )
    parser.add_argument("--series", type=int, default=4, help="of that patient")
    parser.add_argument(
        "--stride", type=int, default=5, help="segmentation_stride of the coarse pass that is timed"
    )
    parser.add_argument(
        "--memory-slices",
        type=int,
        default=150,
        help="of the series whose peak memory is measured; 0: not measured",
    )
    parser.add_argument(
        "--models", type=Path, help="run with a trained segmenter, for the Jaccard index"
    )
    parser.add_argument(
        "--rsna", type=Path, nargs="*", default=[], help="DICOM data sets to compare kept slices on"
    )
    parser.add_argument(
        "--brats",
        type=Path,
        nargs="*",
        default=[],
        help="NIfTI data sets to compare kept slices on",
    )
    parser.add_argument(
        "--phantoms",
        type=int,
        default=0,
        help="phantoms with thin slices to compare kept slices on",
    )
    parser.add_argument("--strides", type=int, nargs="*", default=[2, 3, 5])
    given = parser.parse_args()
    if given.slices:
        time_one_patient(given.slices, given.series, given.stride, given.memory_slices)
    for name, folder, list_items in [
        *[("DICOM", path, series_of) for path in given.rsna],
        *[("NIfTI", path, volumes_of) for path in given.brats],
    ]:
        compare_kept(
            given.models,
            f"{name} of {folder.parent.name}/{folder.name}",
            list_items(folder),
            given.strides,
        )
    if given.phantoms:
        with tempfile.TemporaryDirectory() as folder:
            config = PhantomConfig(
                seed=20_000, size=160, n_brats=given.phantoms, n_overlap=0, n_train=2, n_test=0
            )
            write_phantoms(Path(folder), config, n_jobs=1)
            compare_kept(
                given.models,
                "phantoms with thin slices",
                volumes_of(Path(folder) / "brats21"),
                given.strides,
            )
    print(
        f"{date.today()}, {platform.machine()}, {torch.get_num_threads()} threads, "
        f"{', '.join(f'{k} {v}' for k, v in versions().items())}"
    )


if __name__ == "__main__":
    main()
