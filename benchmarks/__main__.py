"""Run all benchmarks: `python -m benchmarks`."""

from benchmarks import execution, merkle, rounds, training

for module in (execution, training, merkle, rounds):
    print(f"== {module.__name__.rsplit('.', 1)[-1]}: {(module.__doc__ or '').splitlines()[0]}")
    module.main()
