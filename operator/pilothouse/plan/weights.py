"""How many pods make a weight, where one plain Service spreads requests evenly over all pods that it selects."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Split:
    """How many pods share the requests.

    Attributes:
        candidate: pods of the new revision, all of which get requests.
        stable: pods of the stable revision that get requests. It keeps all its pods in any case; those beyond this
            number stand by, so that the way back never waits for a pod.
    """

    candidate: int
    stable: int


def split(weight: int, replicas: int) -> Split:
    """Return how many pods come nearest to giving the new revision `weight` percent of the requests.

    The stable revision has `replicas` pods and keeps them, and the new one gets at most as many. So up to half, pods
    of the new revision are added: c of them get c / (replicas + c). Beyond half, the new one has all its pods, and
    fewer of the stable one's get requests. Whole numbers are rounded to the nearest, ties to the new revision, and
    no weight from 1 to 99 means no pod on either side. Weight 0 is one pod that gets nothing, to be looked at.

    | replicas | weight | candidate | stable | reached |                                             |
    |----------|--------|-----------|--------|---------|---------------------------------------------|
    | 10       | 10     | 1         | 10     | 9       | 10 x 10/90 = 1.1                            |
    | 10       | 25     | 3         | 10     | 23      | 10 x 25/75 = 3.3                            |
    | 10       | 50     | 10        | 10     | 50      |                                             |
    | 10       | 80     | 10        | 2      | 83      | 10 x 20/80 = 2.5, a tie: fewer stable pods  |
    | 4        | 1      | 1         | 4      | 20      | 4 x 1/99 = 0.04, but never none             |
    | 4        | 20     | 1         | 4      | 20      |                                             |
    | 4        | 99     | 4         | 1      | 80      | never none of the stable ones either        |
    | 3        | 60     | 3         | 2      | 60      |                                             |
    | 2        | 20     | 1         | 2      | 33      | 2 x 20/80 = 0.5, a tie: one more candidate  |
    | 1        | 5      | 1         | 1      | 50      | one replica can only be shared by half      |
    | 5        | 0      | 1         | 5      | 0       |                                             |
    | 5        | 100    | 5         | 0      | 100     |                                             |
    | 0        | any    | 0         | 0      | 0       | scaled to zero                              |
    """
    if replicas <= 0:
        return Split(0, 0)
    if weight <= 0:
        return Split(1, replicas)
    if weight >= 100:
        return Split(replicas, 0)
    if weight <= 50:
        return Split(min(max(_nearest(replicas * weight, 100 - weight), 1), replicas), replicas)
    # Ties go to the new revision, which here means fewer of the stable one's: rounded down.
    return Split(replicas, min(max(-_nearest(-replicas * (100 - weight), weight), 1), replicas))


def reached(candidate: int, stable: int) -> int:
    """Return the percentage of requests that `candidate` pods get beside `stable` pods, to the nearest whole."""
    return _nearest(100 * candidate, candidate + stable) if candidate else 0


def _nearest(numerator: int, denominator: int) -> int:
    """Return the whole number nearest to a fraction, ties rounded up."""
    return (2 * numerator + denominator) // (2 * denominator)
