"""What a fit of 10^9 rows costs, on paper: the tables of ``docs/several_machines.md``.

Run as ``python docs/experiments/scaling.py``. A step of TopK is counted in products of the encoder,
in bytes of memory and in bytes between processes. The first two rates of a processor are those with
which the measured steps of ``docs/performance.md`` are explained best; those of other machines are
assumptions, which stand here.
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls

BYTES = 4  # of a number in float32
MATRICES = 2  # the encoder and the dictionary
TOUCHED = 8  # weight, gradient and two moments of Adam, each read and written
MARGIN = 12  # candidates beyond k whose exact values are computed


class Fit(NamedTuple):
    """Sizes of a fit: rows of a step in all processes, features, latents, codes per row."""

    batch: int
    d: int
    m: int
    k: int

    def products(self, n_processes=1):
        """Operations of the encoder's product in each process; all others are thousandths of it."""
        return 2 * self.batch / n_processes * self.d * self.m

    def traffic(self, n_processes=1):
        """Bytes that each process reads or writes in memory.

        Per row five passes over the dictionary's or the encoder's rows of its codes (decoding, the
        codes' gradient, two matrices' gradients, exact values); and the update of all weights.
        """
        gathered = self.batch / n_processes * (5 * self.k + MARGIN) * self.d * BYTES
        return gathered + TOUCHED * self.weights()

    def weights(self):
        """Bytes of both matrices, which is what the processes sum in every step."""
        return MATRICES * self.m * self.d * BYTES


class Machine(NamedTuple):
    """Rates of a process, operations and bytes per second, and the number of processes."""

    name: str
    n_processes: int
    products: float
    memory: float
    network: float


# Seconds of a step on two cores (AMD EPYC with bfloat16), from docs/performance.md.
MEASURED = {
    "A": (Fit(4096, 512, 4096, 32), 0.072),
    "B": (Fit(4096, 768, 16384, 32), 0.299),
    "C": (Fit(2048, 384, 3072, 32), 0.031),
}


def measured_rates():
    """Return operations and bytes per second of two cores, and the model's seconds per step."""
    counts = np.array([[fit.products(), fit.traffic()] for fit, _ in MEASURED.values()])
    seconds = np.array([time for _, time in MEASURED.values()])
    # Least squares of relative errors.
    costs, _ = nnls(counts / seconds[:, None], np.ones(len(seconds)))
    return 1 / costs[0], 1 / costs[1], counts @ costs


def machines():
    """Eight GPUs of a node, and nodes of 64 cores each."""
    products, _, _ = measured_rates()
    return [
        # Half of the peak in bfloat16, three quarters of the memory's rate, NVLink within a node.
        Machine("8 H100", 8, 450e12, 2.5e12, 350e9),
        # Cores multiply as measured; the memory of a node is slower than 64 times two cores'.
        Machine("16 nodes of 64 cores", 16, 32 * products, 300e9, 12.5e9),
        Machine("64 nodes of 64 cores", 64, 32 * products, 300e9, 12.5e9),
    ]


def seconds_per_step(fit, machine):
    """Return the seconds of the products, of the memory and of the sums over processes."""
    n = machine.n_processes
    # In a ring every process sends, and receives, nearly two times what is summed.
    sent = 2 * (n - 1) / n * fit.weights()
    return (
        fit.products(n) / machine.products,
        fit.traffic(n) / machine.memory,
        sent / machine.network,
    )


def print_model():
    """Print the measured steps beside those of the model."""
    products, memory, seconds = measured_rates()
    print(f"two cores: {products / 1e9:.0f} GFLOP/s, {memory / 1e9:.0f} GB/s\n")
    print("| configuration | measured, ms | model, ms |\n| --- | ---: | ---: |")
    for (name, (_, time)), modelled in zip(MEASURED.items(), seconds, strict=True):
        print(f"| {name} | {time * 1e3:.0f} | {modelled * 1e3:.0f} |")


def table(n_rows, d, m, k):
    """Return the lines of the table of machines and batches."""
    lines = [
        "| machine | rows per step | products, s | memory, s | sums, s | steps | hours "
        "| reads, GB/s |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for machine in machines():
        for batch in (2**15, 2**17):
            fit = Fit(batch, d, m, k)
            parts = seconds_per_step(fit, machine)
            n_steps = -(-n_rows // batch)
            read = batch * d * 2 / sum(parts) / 1e9  # float16
            lines.append(
                f"| {machine.name} | {batch} | {' | '.join(f'{part:.3f}' for part in parts)} "
                f"| {n_steps} | {n_steps * sum(parts) / 3600:.1f} | {read:.1f} |"
            )
    return lines


if __name__ == "__main__":
    print_model()
    size = Fit(2**15, 4096, 131_072, 64)
    print(f"\nweights {size.weights() / 1e9:.1f} GB, with gradient and moments ", end="")
    print(f"{4 * size.weights() / 1e9:.1f} GB\n")
    print("\n".join(table(10**9, size.d, size.m, size.k)))
