"""Each process of a start imports what it needs: seconds of a run's first minute."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import json, sys

def heavy():
    return sorted(name for name in {names} if name in sys.modules)

seen = []
import cosmos_core.cli.commands.run, cosmos_core.launch.train, cosmos_core.launch.child
seen.append(heavy())
import cosmos_core.train.worker, cosmos_core.train.run, cosmos_vfm.family
seen.append(heavy())
import cosmos_vlm.family
seen.append(heavy())
print(json.dumps(seen))
"""
NAMES = [
    *("torch", "torch._dynamo", "torch._inductor", "torch.distributed.run", "transformers", "diffusers", "peft"),
    *(
        "torchvision",
        "scipy",
        "sklearn",
        "pandas",
        "pyarrow",
        "datasets",
        "matplotlib",
        "wandb",
        "tensorboard",
        "IPython",
    ),
]


def test_the_launcher_imports_no_torch_and_a_rank_no_library_that_its_family_does_not_train_with() -> None:
    """transformers' models of the reasoner import torch's compiler themselves."""
    command = [sys.executable, "-c", PROGRAM.format(names=NAMES)]
    launcher, generator, reasoner = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert launcher == []
    assert generator == ["torch"]
    assert set(reasoner) <= {"torch", "torch._dynamo", "torch._inductor", "transformers"}
