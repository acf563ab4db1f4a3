"""Training by several processes, the ranks of an MPI job: `world` says which one this is.

gradflow starts no processes: ``mpiexec -n 4 python train.py`` and ``srun`` do. Each rank runs the whole program; in
`Trainer.fit` each computes its rows of every batch.
"""

from gradflow.distributed.base import Ending, World
from gradflow.distributed.launch import alone, world

__all__ = ["Ending", "World", "alone", "world"]
