"""What a ticket is good for: a network that is permanent, physically smaller, sparse, exported, and what each of it
saves.

- `lottery.tickets.baking`: zeros in the weights of a plain module (`bake`, `baked_masks`; also `Ticket.bake`,
`Ticket.of`)
- `compaction/`: without the units that nothing reads or nothing writes (`compact`, `resize`)
- `sparse/`: sparse files (`save_sparse`, `load_sparse`) and sparse matrices (`sparsify`)
- `export/`: ONNX, torch.export and Hugging Face's files, checked before they are there; any format of `formats/` by its
  name (`export_as`)
- `costs/`: parameters, bytes, FLOPs, latency and memory, side by side (`cost`)
"""

from lottery.deploy.compaction.compaction import Compaction, compact
from lottery.deploy.compaction.surgery import resize
from lottery.deploy.costs.cost import cost
from lottery.deploy.costs.sentences import sentences
from lottery.deploy.costs.variants import Cost
from lottery.deploy.export.exporting import export_as
from lottery.deploy.export.hugging_face import load_safetensors, save_safetensors
from lottery.deploy.export.program import Exported, export_onnx, export_program
from lottery.deploy.sparse.compute import Sparsified, sparsify
from lottery.deploy.sparse.file import load_sparse, load_sparse_masks, save_sparse
from lottery.tickets.baking import bake, baked_masks

__all__ = [
    "Compaction",
    "Cost",
    "Exported",
    "Sparsified",
    "bake",
    "baked_masks",
    "compact",
    "cost",
    "export_as",
    "export_onnx",
    "export_program",
    "load_safetensors",
    "load_sparse",
    "load_sparse_masks",
    "resize",
    "save_safetensors",
    "save_sparse",
    "sentences",
    "sparsify",
]
