"""The examples run as they stand, are short, and show what they say they show."""

from __future__ import annotations

import ast
import http.client
import json
import os
import re
import runpy
import subprocess
import threading
import tomllib
import warnings
from pathlib import Path
from typing import Any

import pytest
from drawn import draw_photos
from finished_runs import finished_run, tiny_network, tiny_weights  # noqa: F401

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
MOST_LINES = 60
ARGUMENTS = {
    "extract_and_fit.py": ("photos", "--weights", "random:0"),
    "sklearn_pipeline.py": ("photos", "--weights", "random:0", "--folds", "2"),
    "in_place_trap.py": (),
    "which_layer.py": (),
    "neighbours.py": (),
    "what_it_sees.py": (),
    "codes_map.py": (),
}
WRITTEN = {
    "neighbours.py": ("neighbours.png",),
    "what_it_sees.py": ("gradcam.png", "occlude.png"),
    "codes_map.py": ("map.png",),
}
OF_ANY_MEADOW = ("neighbours.py", "codes_map.py")  # what they show needs no certain number of pictures
SHOWN = {
    "extract_and_fit.py": ("18 images, 3 classes", "images/s", "top-1 ", "bird/0.jpg: "),
    "sklearn_pipeline.py": ("accuracy ", "(2 folds)", "bird/0.jpg: "),
    "in_place_trap.py": (
        "torchvision: asked for both, the two layers are equal: True",
        "torchvision: negative values before the ReLU: 0",
        "torchvision: asked for alone, it is the same: False",
        "cnncodes: asked for both, the two layers are equal: False",
        "cnncodes: asked for alone, it is the same: True",
    ),
    "which_layer.py": ("132 images, 4 classes", "pool5 ", "fc7 ", "by chance: "),
    "neighbours.py": ("test/dragonfly/21.jpg:", "of the query's class, by codes: "),
    "what_it_sees.py": ("barn spider", "written: occlude.png"),
    "codes_map.py": ("written: map.png",),
}


@pytest.fixture(scope="module")
def small_meadow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 pictures of each class instead of 33: a third of the time for the examples that look at every picture."""
    meadow = tmp_path_factory.mktemp("small") / "meadow"
    for path in sorted((EXAMPLES / "meadow").glob("t*/*/*.jpg")):
        if int(path.stem) < 6 or 21 <= int(path.stem) < 27:
            target = meadow / path.relative_to(EXAMPLES / "meadow")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    return meadow


def test_every_example_is_run_here() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(ARGUMENTS)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_an_example_runs(
    name: str,
    small_meadow: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In this process: seven others would import torch seven times, longer than the examples take."""
    path = EXAMPLES / name
    assert len(path.read_text(encoding="utf-8").splitlines()) < MOST_LINES
    draw_photos(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    if name in OF_ANY_MEADOW:
        monkeypatch.setattr("cnncodes.advice.demo_images.meadow_folder", lambda: small_meadow)
    monkeypatch.setattr("sys.argv", [str(path), *ARGUMENTS[name]])
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=DeprecationWarning, module="__main__")
        runpy.run_path(str(path), run_name="__main__")
    shown = capsys.readouterr().out
    for part in SHOWN[name]:
        assert part in shown
    for picture in WRITTEN.get(name, ()):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")


def code_cells() -> list[str]:
    """The code of the notebook, cell by cell."""
    notebook = json.loads((EXAMPLES / "transfer_learning.ipynb").read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells), (
        "clear its outputs"
    )
    return ["".join(cell["source"]) for cell in cells]


def test_the_notebook_is_clean_and_what_it_imports_is_there() -> None:
    for number, code in enumerate(code_cells()):
        compile(code, f"cell {number}", "exec")
        imports = [node for node in ast.parse(code).body if isinstance(node, ast.Import | ast.ImportFrom)]
        exec(compile(ast.Module(imports, []), f"imports of cell {number}", "exec"), {})


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    names: dict[str, Any] = {}
    for number, code in enumerate(code_cells()):
        exec(compile(code, f"cell {number}", "exec"), names)
    accuracy = names["accuracy"]
    assert accuracy["linear SVM on pool5"] > accuracy["linear SVM on random pool5"]


@pytest.mark.parametrize(("code", "ends"), [(0, 0), (3, 0), (1, 1)])
def test_the_slurm_scripts_name_the_part_and_forgive_unreadable_images(
    tmp_path, code: int, ends: int
) -> None:
    fake = tmp_path / "srun"
    fake.write_text(f'#!/bin/sh\necho "$@"\nexit {code}\n')
    fake.chmod(0o755)
    slurm = {"ARRAY_TASK_ID": "2", "ARRAY_TASK_COUNT": "3", "CPUS_PER_TASK": "4"}
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"} | {f"SLURM_{k}": v for k, v in slurm.items()}
    script = EXAMPLES / "cluster" / "extract.sbatch"
    command = ["bash", str(script), "two words", "codes", "--weights", "starter"]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == ends
    assert ran.stdout.startswith("cnncodes extract two words -o codes/part2.h5 --shard 2/3 --workers 4")
    assert ran.stdout.endswith("--weights starter\n")
    joined = ["bash", str(EXAMPLES / "cluster" / "join.sbatch"), "codes"]
    assert subprocess.run(joined, env=environment, capture_output=True, check=False).returncode == code


def test_the_manifest_for_kubernetes_asks_for_what_the_command_has() -> None:
    yaml = pytest.importorskip("yaml")
    job = yaml.safe_load((EXAMPLES / "cluster" / "kuberay.yaml").read_text(encoding="utf-8"))
    cluster = job["spec"]["rayClusterSpec"]
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert job["spec"]["entrypoint"].split()[:2] == ["cnncodes", "extract"]
    assert "--ray auto" in job["spec"]["entrypoint"], "the address of the job's own cluster"
    pods = [group["template"]["spec"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]
    mounts = {container["volumeMounts"][0]["mountPath"] for pod in pods for container in pod["containers"]}
    images = {container["image"] for pod in pods for container in pod["containers"]}
    assert mounts == {"/data"} and len(images) == 1, "all machines see the same paths and versions"


def test_the_container_installs_what_the_project_declares() -> None:
    text = (EXAMPLES / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    words = [line.split()[0] for line in lines]
    assert words[0] == "FROM" and set(words) <= {
        "FROM",
        "COPY",
        "RUN",
        "USER",
        "WORKDIR",
        "ENTRYPOINT",
        "CMD",
    }
    assert words.index("USER") < words.index("ENTRYPOINT"), "nothing runs as root"
    (extras,) = re.findall(r"/src\[(.*?)\]", text)
    project = tomllib.loads((EXAMPLES.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(extras.split(",")) <= set(project["optional-dependencies"])
    for line in lines:
        if line.startswith(("ENTRYPOINT", "CMD")):
            json.loads(line.split(maxsplit=1)[1])


def test_the_nightly_job_takes_known_codes_over_and_forgives_unreadable_images(tmp_path) -> None:
    fake = tmp_path / "cnncodes"
    fake.write_text('#!/bin/sh\necho "$@"\n[ "$1" != extract ] || { : > "$4"; exit 3; }\n')
    fake.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = ["sh", str(EXAMPLES / "nightly.sh"), "photos", str(tmp_path / "two words")]
    first, second = (
        subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True
        ).stdout.splitlines()
        for _ in range(2)
    )
    assert [line.split()[0] for line in first] == ["extract", "export", "run"]
    assert "--from" not in first[0] and second[0].endswith(
        f"--from {tmp_path}/two words/codes.h5 --overwrite"
    )


def test_the_service_answers_as_the_model_does(tmp_path, tiny_network) -> None:  # noqa: F811
    pytest.importorskip("onnxruntime")
    from cnncodes.evaluation import predict
    from cnncodes.evaluation.whole import export_model

    finished_run(tmp_path)
    model, image = tmp_path / "run" / "model.safetensors", tmp_path / "photos" / "dog" / "2.jpg"
    export_model(model, tmp_path / "model.onnx", to="onnx")
    program = runpy.run_path(str(EXAMPLES / "service" / "serve.py"))
    server = program["serve"](program["Model"](str(tmp_path / "model.onnx")), 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def ask(content: bytes) -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPConnection(*server.server_address)
        connection.request("POST", "/", content)
        answer = connection.getresponse()
        try:
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    try:
        (expected,) = predict(str(model), [image], weights=tiny_weights())
        status, found = ask(image.read_bytes())
        assert status == 200 and list(found) == list(expected.classes)
        assert list(found.values()) == pytest.approx(list(expected.probabilities), abs=1e-4)
        assert ask(b"no image")[0] == ask(b"")[0] == 400
    finally:
        server.shutdown()
        server.server_close()
