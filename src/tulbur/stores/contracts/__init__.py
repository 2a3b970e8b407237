"""The parts of `stores.contract`, one file for each thing a store promises."""
