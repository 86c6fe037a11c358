"""Where networks run, and that they predict in the precision of their recipe."""

from dataclasses import replace

import pytest
import torch
from helpers.training_runs import SEGMENTER, stage_parts

from t4e_utils.learning import TrainingError
from t4e_utils.learning.devices import (
    autocast,
    device_of,
    pick_device,
    predicting,
    resolve_precision,
    slices_per_pass,
)
from t4e_utils.learning.loaders import make_loader
from t4e_utils.learning.networks import blueprint, build, with_precision

CPU = torch.device("cpu")


def test_the_device_is_what_the_machine_has():
    assert pick_device().type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_the_device_of_a_network_is_that_of_its_weights():
    assert device_of(build(SEGMENTER)) == CPU
    assert device_of(blueprint(SEGMENTER)).type == "meta"


def test_few_slices_pass_at_once_on_a_cpu():
    assert slices_per_pass(CPU) < slices_per_pass(torch.device("cuda"))


def test_precision_fits_the_device():
    names = ("auto", "fp32", "bf16")
    assert [resolve_precision(name, CPU) for name in names] == ["fp32", "fp32", "bf16"]
    for refused in (resolve_precision, lambda name, device: autocast(device, name)):
        with pytest.raises(TrainingError, match="precision='fp16' needs a GPU: use 'auto'"):
            refused("fp16", CPU)


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("fp32", torch.float32), ("auto", torch.float32), ("bf16", torch.bfloat16)],
)
def test_predicting_is_without_gradients_and_in_the_precision_of_the_recipe(precision, dtype):
    model = build(replace(SEGMENTER, precision=precision)).eval()
    images = torch.zeros(1, 1, 32, 32, dtype=torch.uint8)
    with predicting(model) as device:
        assert device == CPU
        assert torch.is_inference_mode_enabled()
        logits = model(images.to(device))
    assert logits.dtype == dtype
    assert not torch.is_inference_mode_enabled()
    with predicting(with_precision(model, "fp32")):
        assert model(images).dtype == torch.float32


def test_predicting_in_a_precision_that_the_device_lacks_is_refused():
    model = build(replace(SEGMENTER, precision="fp16"))
    with pytest.raises(TrainingError, match="precision='fp16' needs a GPU"), predicting(model):
        pass


def test_predictions_do_not_depend_on_the_batch_size(cases):
    model, (_, dataset), _ = stage_parts("segmentation", cases)
    found = []
    with predicting(model.eval()):
        for size in (1, 3, 20):
            logits = [model(batch["inputs"]) for batch in make_loader(dataset, batch_size=size)]
            found.append(torch.cat(logits))
    assert found[0].shape == (20, 2, 32, 32)
    for logits in found:
        torch.testing.assert_close(logits, found[0], atol=1e-4, rtol=0)
