"""The whole training in one command; interrupted (SIGTERM, a kill), the same command goes on.

    python -m tools.make_starter IMAGES --small SMALL --teachers TEACHERS -o WORK

IMAGES: photographs with a shorter side of 224 px or more, in any folders; SMALL: smaller ones whose answers are in
TEACHERS/source_teacher.h5; TEACHERS also holds alexnet_convolutions.ts and mobilenet_v2.ts. WORK gets checkpoints,
progress.jsonl and at the end starter.safetensors (together.safetensors after the third part), which ``cnncodes weights convert --int8`` makes small.

On glibc, memory that is given back and taken again costs half of the time; these keep it:

    export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000 MALLOC_TOP_PAD_=1000000000
"""

from __future__ import annotations

import argparse
import tomllib
from pathlib import Path

import torch
from torch import nn

from cnncodes.weights import Preprocessing
from tools.make_starter.classifier import known_answers, learn_classifier, learn_together, store
from tools.make_starter.convolutions import learn_convolutions
from tools.make_starter.pack import pack
from tools.make_starter.pixels import Photographs
from tools.make_starter.student import Classifier
from tools.make_starter.teachers import AlexNetTeacher, MobileNetTeacher
from tools.make_starter.work import Part, Work


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("images", type=Path)
    ask.add_argument("--small", type=Path, action="append")
    ask.add_argument("--teachers", type=Path, required=True)
    ask.add_argument("-o", "--work", type=Path, required=True)
    ask.add_argument("--settings", type=Path, default=Path(__file__).with_name("starter.toml"))
    ask.add_argument("--from", dest="start", default="", help="checkpoint whose convolutions are the start")
    args = ask.parse_args()
    settings = tomllib.loads(args.settings.read_text())
    parts = {name: Part(**settings[name]) for name in ("convolutions", "classifier", "together")}
    torch.manual_seed(0)
    work = Work(args.work)
    photographs = Photographs([args.images], work.folder)

    def ready(module: nn.Module) -> nn.Module:
        return module.eval().bfloat16().to(memory_format=torch.channels_last)

    alexnet = ready(AlexNetTeacher(args.teachers / "alexnet_convolutions.ts"))
    mobilenet = ready(MobileNetTeacher(args.teachers / "mobilenet_v2.ts"))
    stored_answers = args.teachers / "source_teacher.h5"
    _, ids = known_answers(stored_answers, [])
    imitation = learn_convolutions(work, parts["convolutions"], photographs, alexnet, args.start)
    if imitation is None:
        return
    network = settings["network"]
    classifier = Classifier(network["rank"], network["dropout"])
    finished = work.load("classifier-done.pt")
    if finished:
        classifier.load_state_dict(finished["classifier"])
    else:
        imitation.eval()
        sets = []
        found = store(photographs, imitation.student, mobilenet, work, settings["stored"]["views"])
        if found:
            sets.append((photographs, *found))
        if args.small and found:
            beside = work.folder / "small"
            beside.mkdir(exist_ok=True)
            small = Photographs(args.small, beside, 128)
            work.tell("small", {"left_out_as_copies_of_watched": small.leave_out(photographs)})
            known, _ = known_answers(stored_answers, small.names)
            found = store(
                small, imitation.student, mobilenet, work, settings["stored"]["small_views"], beside, known
            )
            sets += [(small, *found)] if found else []
        if not found or not learn_classifier(
            work, parts["classifier"], classifier, sets, ids, network["features"]
        ):
            return
        work.save("classifier-done.pt", {"classifier": classifier.state_dict()})
    preprocessing = Preprocessing(**settings["preprocessing"])
    state = {"imitation": imitation.state_dict(), "classifier": classifier.state_dict()}
    pack(state, ids, preprocessing, work.folder / "starter.safetensors")
    if not parts["together"].views:
        return
    done = learn_together(
        work,
        parts["together"],
        imitation,
        classifier,
        (alexnet, mobilenet),
        photographs,
        ids,
        network["features"],
    )
    if done:
        state = {"imitation": imitation.state_dict(), "classifier": classifier.state_dict()}
        pack(state, ids, preprocessing, work.folder / "together.safetensors")


if __name__ == "__main__":
    main()
