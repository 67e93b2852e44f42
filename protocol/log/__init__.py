"""The public append-only log: Merkle tree, signed notes and checkpoints, tiles, witness policies (spec 4)."""
