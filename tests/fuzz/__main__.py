"""python -m fuzz [--seed 1] [--cases 2500] [--seconds 0] [--workers 2] [--kinds keras,pytorch] [--ways name] [--export]

Prints how many distinct files of each kind ended how, and how many different places of the loaders they reached. Exit
status 1 where one ended as none may: a traceback or nothing in place of a sentence, a hang, a file outside its folder.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

from fuzz.runner import Case, Result, preload, run_cases

_TENSORFLOW = ("protobuf", "checkpoint", "savedmodel")


def ways_of(kind: str, only: str = "") -> list[Callable]:
    """The ways to spoil a file of that kind, of those whose names begin with `only`."""
    from fuzz.bytes_cases import byte_cases

    ways = [byte_cases]
    if kind.startswith(_TENSORFLOW):
        from fuzz.graph_cases import graph_cases

        ways.append(graph_cases)
    elif kind.startswith("keras"):
        from fuzz.keras_cases import keras_cases

        ways.append(keras_cases)
    elif kind in ("pytorch module", "pytorch old format"):
        from fuzz.name_cases import name_cases
        from fuzz.pytorch_cases import pytorch_cases

        ways += [pytorch_cases, name_cases]
    elif kind.startswith("onnx"):
        from fuzz.onnx_cases import onnx_cases

        ways += [onnx_cases, onnx_cases]  # bytes at random are seldom a model
    elif kind.startswith("tflite"):
        from fuzz.tflite_cases import tflite_cases

        ways += [tflite_cases, tflite_cases]
    elif kind == "pytorch program":
        from fuzz.name_cases import name_cases

        ways.append(name_cases)
    return [way for way in ways if way.__name__.startswith(only)]


def streams(kind: str, seed_file: Path, seed: int, only: str = "") -> Iterator[Case]:
    """Cases of one kind, by turns of every way to spoil it; the same for the same seed."""
    ways = ways_of(kind, only)
    made = [way(seed_file, random.Random(f"{seed} {kind} {way.__name__} {turn}")) for turn, way in enumerate(ways)]
    for index, stream in enumerate(itertools.cycle(made)):
        words, build = next(stream)
        yield Case(kind, index, words, build)


def main() -> int:
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cases", type=int, default=2500, help="over all kinds")
    parser.add_argument("--seconds", type=float, default=0, help="no new case after so many; 0: no limit")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--kinds", default="", help="only kinds that begin so, separated by commas")
    parser.add_argument("--ways", default="", help="only one: byte, graph, keras, pytorch, onnx, tflite or name")
    parser.add_argument("--export", action="store_true", help="convert to ONNX what can be read")
    parser.add_argument("--only", type=int, help="run one case of the one kind, by its number, and print its end")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="converter-fuzz-seeds-") as folder:
        pid = os.fork()
        if pid == 0:  # making the seeds starts the frameworks' threads, which this process must not have
            from fuzz.seeds import write_seeds

            tempfile.tempdir = folder  # TensorFlow keeps generated code there, and os._exit removes nothing
            seeds = write_seeds(Path(folder))
            Path(folder, "list").write_text("\n".join(f"{kind}\t{path}" for kind, path in seeds.items()))
            os._exit(0)
        os.waitpid(pid, 0)
        seeds = dict(line.split("\t") for line in Path(folder, "list").read_text().split("\n"))
        wanted = tuple(filter(None, args.kinds.split(",")))
        kinds = [kind for kind in seeds if (not wanted or kind.startswith(wanted)) and ways_of(kind, args.ways)]
        if not kinds:
            parser.error(f"nothing is spoilt so: --kinds {args.kinds} --ways {args.ways}")
        preload(kinds)
        cases = [streams(kind, Path(seeds[kind]), args.seed, args.ways) for kind in kinds]
        if args.only is not None:
            turns = itertools.islice(cases[0], args.only, args.only + 1)
        else:
            turns = itertools.islice(itertools.chain.from_iterable(zip(*cases, strict=True)), args.cases)
        return summarize(run_cases(turns, args.workers, args.seconds, args.export), verbose=args.only is not None)


def summarize(results: Iterator[Result], verbose: bool) -> int:
    started, seen, bad = time.monotonic(), set(), []
    outcomes, parts, ways = defaultdict(Counter), defaultdict(Counter), defaultdict(set)
    for result in results:
        if result.outcome == "no case" or (result.digest and result.digest in seen):
            continue
        seen.add(result.digest)
        kind = result.case.kind
        outcomes[kind][result.outcome] += 1
        parts[kind][result.part] += 1
        ways[kind].add(result.case.words.split(" in ")[0])
        if result.problems or result.outcome in ("hung", "crashed") or verbose:
            bad.append(result)
            where = f"{kind} {result.case.index} ({result.case.words})"
            print(f"{where}: {result.outcome} {result.problems} {result.part}\n    {result.message}", flush=True)
    columns = ["refused", "verified", "unverified", "inaccurate", "read", "gave up", "crashed", "hung"]
    used = [column for column in columns if any(counts[column] for counts in outcomes.values())]
    print(f"{'kind':22}{'cases':>7}{'places':>8}{'ways':>6}" + "".join(f"{column:>12}" for column in used))
    for kind, counts in outcomes.items():
        row = "".join(f"{counts[column]:>12}" for column in used)
        print(f"{kind:22}{sum(counts.values()):>7}{len(parts[kind]):>8}{len(ways[kind]):>6}{row}")
    total = sum(sum(counts.values()) for counts in outcomes.values())
    places = {(kind.split()[0], part) for kind, counts in parts.items() for part in counts}
    print(f"{total} distinct cases reached {len(places)} places of the loaders in {time.monotonic() - started:.0f} s")
    wrong = [result for result in bad if result.problems or result.outcome == "hung"]
    print(f"{len(wrong)} ended as none may")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
