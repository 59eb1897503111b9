"""The files for Slurm and Kubernetes: sound by the books of others, and run here with stand-ins for what we lack.

`srun` is a stand-in that runs its command on this machine, `scontrol` and `scancel` ones that write down what they were
asked, and hand on the signal; pods are processes.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from launched import ENVIRONMENT, finish, free_port
from test_sharing import same_pictures

import inkwash
from inkwash.cli.app import app
from inkwash.training import Run, TrainOptions, checkpoint

CLUSTER = Path(__file__).parents[2] / "scripts" / "cluster"
SLURM, KUBERNETES = sorted(CLUSTER.glob("*.slurm")), sorted(CLUSTER.glob("*.yaml"))
TOOLS = {
    "srun": 'while [ "${1#--}" != "$1" ]; do shift; done\n"$@" & echo $! > "$STAND_INS/launcher"\nwait $!\n',
    "scontrol": 'echo "scontrol $*" >> "$STAND_INS/asked"\nif [ "$1" = show ]; then echo localhost; fi\n',
    "scancel": 'echo "scancel $*" >> "$STAND_INS/asked"\nkill -TERM "$(cat "$STAND_INS/launcher")"\n',
}


def documents(path: Path) -> dict[str, Any]:
    return {document["kind"]: document for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))}


def parsed(words: list[str]) -> dict[str, Any]:
    """What our command line understands by the words after `inkwash`."""
    _, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
    return bound.arguments


@pytest.mark.parametrize("path", SLURM, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(path: Path) -> None:
    checked = subprocess.run([Path(sys.executable).with_name("shellcheck"), path], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
    assert os.access(path, os.X_OK)


@pytest.mark.parametrize("path", KUBERNETES, ids=lambda path: path.name)
@pytest.mark.parametrize("version", ["1.31", kubernetes_validate.latest_version()])
def test_manifests_follow_the_schema(path: Path, version: str) -> None:
    for document in documents(path).values():
        kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("path", SLURM, ids=lambda path: path.name)
def test_the_examples_of_a_script_are_commands_of_ours(path: Path) -> None:
    example = next(line for line in path.read_text().splitlines() if line.startswith("#     sbatch"))
    words = shlex.split(example.partition(path.name)[2])
    if path.name == "sample.slurm":
        run, count, out, *rest = words
        told = parsed(["sample", run, "--first", "0", "--number", count, "--out", out, *rest])
        assert told["number"] == 1000
    else:
        assert parsed(["train", *words, "--resume"])["batch"] == 256


@pytest.mark.parametrize("name", ["several-machines.md", "several-machines.zh.md"])
def test_the_commands_of_the_page_are_commands_of_ours(name: str) -> None:
    page = (CLUSTER.parents[1] / "docs" / name).read_text(encoding="utf-8")
    blocks = re.findall(r"(?ms)^```sh\n(.*?)^```", page)
    commands = [shlex.split(block.replace("\\\n", " ")) for block in blocks]
    ours = [words[words.index("inkwash") + 1 :] for words in commands if "inkwash" in words]
    ours += [["train", *words[4:]] for words in commands if words[3].endswith("train.slurm")]
    assert len(ours) == 5
    for words in ours:
        assert parsed(words)["batch"] == 256
    files = [word for words in commands for word in words if word.startswith("scripts/")]
    assert len(files) == 3
    assert all((CLUSTER.parents[1] / file).is_file() for file in files)


def test_the_manifest_of_a_training_is_consistent() -> None:
    found = documents(CLUSTER / "train.kubernetes.yaml")
    job, service = found["Job"]["spec"], found["Service"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    words = container["args"]
    launcher = dict(word.removeprefix("--").split("=") for word in words[: words.index("-m")])
    assert int(launcher["nnodes"]) == job["completions"] == job["parallelism"]
    assert launcher["nproc-per-node"] == container["resources"]["limits"]["nvidia.com/gpu"]
    name = found["Job"]["metadata"]["name"]
    assert pod["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == {"batch.kubernetes.io/job-name": name}
    assert launcher["master-addr"] == f"{name}-0.{pod['subdomain']}"
    assert int(launcher["master-port"]) == service["spec"]["ports"][0]["port"] == container["ports"][0]["containerPort"]
    wait = next(v["value"] for v in container["env"] if v["name"] == "TORCH_ELASTIC_SHUTDOWN_TIMEOUT")
    assert int(wait) < pod["terminationGracePeriodSeconds"]
    assert {v["name"] for v in pod["volumes"]} == {mount["name"] for mount in container["volumeMounts"]}
    told = parsed(words[words.index("inkwash") + 1 :])
    assert told["resume"]
    assert told["batch"] % (int(launcher["nnodes"]) * int(launcher["nproc-per-node"])) == 0
    options = {pair.split("=")[0] for pair in told["set"]}
    assert options <= {*TrainOptions.model_fields, *inkwash.systems.get("ddpm").Config.model_fields}


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """The environment of a job, with tools that stand in for those of Slurm."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, text in TOOLS.items():
        (tools / name).write_text(f"#!/bin/bash\n{text}")
        (tools / name).chmod(0o755)
    return {
        **ENVIRONMENT,
        "PATH": f"{tools}:{os.environ['PATH']}",
        "STAND_INS": str(tools),
        "PYTHON": sys.executable,
        "PROCESSES": "2",
        "SLURM_JOB_ID": str(free_port() - 20000 & 0x3FFF),
        "SLURM_JOB_NODELIST": "localhost",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_CPUS_PER_TASK": "2",
    }


def submit(script: str, environment: dict[str, str], *words: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        ["bash", CLUSTER / script, *map(str, words)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def asked(environment: dict[str, str]) -> list[str]:
    return (Path(environment["STAND_INS"]) / "asked").read_text().splitlines()


@pytest.mark.slow
def test_a_job_whose_time_runs_out_is_queued_again_and_goes_on(
    slurm: dict[str, str], discs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    words = ["polyp-ddpm", discs, "--out", out, "--steps", 60, "--size", 16, "--batch", 4]
    words += ["--set", "base=8", "multipliers=1,2", "attention=4", "checkpoint_every=5", "log_every=1"]
    job = submit("train.slurm", slurm, *words)
    end = time.monotonic() + 120
    while not (out / "checkpoints" / "step-00000005.json").exists():
        assert time.monotonic() < end
        assert job.poll() is None, job.communicate()[0]
        time.sleep(0.05)
    job.send_signal(signal.SIGUSR1)
    said = finish(job, failing=True)
    assert re.search(r"inkwash: stopped by SIGTERM after step \d+; .* is saved, --resume continues it", said)
    number = slurm["SLURM_JOB_ID"]
    assert asked(slurm) == ["scontrol show hostnames localhost", f"scancel --signal=TERM {number}",
                            f"scontrol requeue {number}"]
    stopped = checkpoint.steps(out / "checkpoints")[-1]
    assert 5 <= stopped < 60

    finish(submit("train.slurm", {**slurm, "SLURM_RESTART_COUNT": "1"}, *words))
    assert [row["step"] for row in Run.open(out).metrics()] == list(range(1, 61))
    assert asked(slurm)[3:] == ["scontrol show hostnames localhost"]


@pytest.mark.slow
def test_a_job_that_is_cancelled_or_wrong_is_not_queued_again(
    slurm: dict[str, str], discs: Path, tmp_path: Path
) -> None:
    words = ["polyp-ddpm", discs, "--out", tmp_path / "run", "--steps", 2, "--size", 16, "--batch", 3]
    said = finish(submit("train.slurm", slurm, *words), failing=True)
    assert "batch = 3 does not divide into 2 processes" in said
    assert asked(slurm) == ["scontrol show hostnames localhost"]


def test_an_array_draws_what_one_job_draws(slurm: dict[str, str], run: Path, discs: Path, tmp_path: Path) -> None:
    words = [run, 2, tmp_path / "parts", "--condition", discs, "--steps", 3, "--seed", 2]
    for task in ("0", "1", "1"):
        finish(submit("sample.slurm", {**slurm, "SLURM_ARRAY_TASK_ID": task}, *words))
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == ["00000", "00001"]
    inkwash.sample(run, 4, out=tmp_path / "whole", condition=str(discs), steps=3, seed=2)
    (tmp_path / "joined").mkdir()
    for path in (tmp_path / "parts").rglob("*.png"):
        path.rename(tmp_path / "joined" / path.name)
    same_pictures(tmp_path / "whole", tmp_path / "joined")


@pytest.mark.slow
def test_the_pods_of_a_training_find_one_another(discs: Path, tmp_path: Path) -> None:
    """The command of the manifest, with this machine's names, two small processes and a small network."""
    job = documents(CLUSTER / "train.kubernetes.yaml")["Job"]["spec"]
    (container,) = job["template"]["spec"]["containers"]
    name, port = "inkwash-train-0.inkwash-train", str(free_port())
    here = {
        name: "localhost", "29500": port, "--nproc-per-node=4": "--nproc-per-node=1", "ddpm": "polyp-ddpm",
        "/data/xrays": str(discs), "/runs/xray": str(tmp_path / "run"), "200000": "4", "256": "16",
        "preset=paper": "base=8",
    }
    launched = []
    for index in range(job["completions"]):
        words = [container["command"][0].replace("python", sys.executable), *container["command"][1:]]
        for word in container["args"]:
            for there, local in {**here, "$(NODE_RANK)": str(index)}.items():
                word = word.replace(there, local)
            words.append(word)
        told = {v["name"]: v["value"] for v in container["env"] if "value" in v and v["name"].startswith("TORCH")}
        launched.append(
            subprocess.Popen(words, env={**ENVIRONMENT, **told}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             text=True)
        )
    for process in launched:
        finish(process)
    run = Run.open(tmp_path / "run")
    assert run.manifest.options.shard
    assert run.metrics()[-1]["step"] == 4


def test_a_pod_draws_its_part(run: Path, discs: Path, tmp_path: Path) -> None:
    pod = documents(CLUSTER / "sample.kubernetes.yaml")["Job"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    script = container["args"][0]
    here = {
        "/runs/xray": str(run), "/runs/pictures": str(tmp_path / "pictures"), "1000": "2",
        "--steps 50": f"--steps 3 --condition {discs}", "python": sys.executable,
    }
    for there, local in here.items():
        assert there in script
        script = script.replace(there, local)
    environment = {**ENVIRONMENT, "JOB_COMPLETION_INDEX": "1", "POD": "inkwash-sample-1-abcde"}
    for _ in range(2):
        subprocess.run([*container["command"], script], env=environment, check=True, capture_output=True)
    names = sorted(str(path.relative_to(tmp_path)) for path in (tmp_path / "pictures").rglob("*.png"))
    assert names == ["pictures/00001/00002.png", "pictures/00001/00003.png"]
