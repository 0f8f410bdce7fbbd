"""Follows the stream that is named, and says what the steps hold."""

import sys

import numpy as np
import panta


def main():
    with panta.Reader(sys.argv[1]) as steps:
        for step in steps:
            u = step["u"]
            print(step.number, step.time, int(np.sum(u[...])), u.unit, u.attributes["by"])
