"""The truth, kept: one module per engine, and the contract every one of them passes."""
