"""What was counted since a moment, whatever becomes of pods and operator meanwhile."""

from __future__ import annotations

from datetime import timedelta
from math import inf

from pilothouse.plan.samples import Ask, Source
from pilothouse.plan.seen import Key
from tests.unit.metrics.servers import NEW, START, Pods, Server, source

KEY = Key("vision", "digits")
ONE, TWO = "127.0.0.2", "127.0.0.3"


def ask(*sources: Source, **more: Source) -> Ask:
    """Ask for the requests since `START` of revision `r`, and of others by name."""
    return Ask(since=START, pods={"r": sources, **{name: (one,) for name, one in more.items()}})


async def test_only_what_came_since_the_first_look_counts_of_an_old_pod(pods: Pods) -> None:
    server = Server()
    server.answers(100, 500)
    await pods.start(ONE, server)
    async with pods.sampler() as sampler:
        first = await sampler.sample(KEY, ask(source("a", ONE)))
        assert (first.traffic["r"].requests, first.seconds) == (0, 0.0)
        server.answers(6, seconds=0.3)
        server.answers(2, 503, seconds=0.3)
        pods.time += timedelta(seconds=15)
        second = await sampler.sample(KEY, ask(source("a", ONE)))
    assert (second.since, second.seconds) == (START, 15.0)
    traffic = second.traffic["r"]
    assert (traffic.requests, traffic.errors, traffic.error_rate) == (8, 2, 0.25)
    assert traffic.buckets[-1] == (inf, 8)
    assert 0.25 < (traffic.quantile(0.99) or 0) <= 0.5


async def test_all_that_a_pod_made_within_the_window_has_counted_belongs_to_it(pods: Pods) -> None:
    server = Server()
    server.answers(40)
    await pods.start(ONE, server)
    async with pods.sampler() as sampler:
        samples = await sampler.sample(KEY, ask(source("a", ONE, created=NEW)))
    assert samples.traffic["r"].requests == 40
    assert samples.seconds == 30.0, "the pods are new, the window is whole"


async def test_asking_uses_nothing_up(pods: Pods) -> None:
    server = Server()
    await pods.start(ONE, server)
    async with pods.sampler() as sampler:
        await sampler.sample(KEY, ask(source("a", ONE)))
        server.answers(5)
        for _ in range(3):
            assert (await sampler.sample(KEY, ask(source("a", ONE)))).traffic["r"].requests == 5


async def test_a_container_that_starts_anew_counts_on(pods: Pods) -> None:
    server = Server()
    server.answers(50)
    await pods.start(ONE, server)
    async with pods.sampler() as sampler:
        await sampler.sample(KEY, ask(source("a", ONE)))
        server.answers(10, 500)
        await sampler.sample(KEY, ask(source("a", ONE)))
        for more, expected in ((3, 13), (2, 15)):
            server.restart()
            server.answers(more, seconds=0.3)
            traffic = (await sampler.sample(KEY, ask(source("a", ONE)))).traffic["r"]
            assert (traffic.requests, traffic.errors) == (expected, 10)
            assert traffic.buckets[-1] == (inf, expected)


async def test_a_pod_that_vanishes_stays_with_what_it_had_counted(pods: Pods) -> None:
    gone, stays = Server(), Server()
    await pods.start(ONE, gone)
    await pods.start(TWO, stays)
    async with pods.sampler() as sampler:
        await sampler.sample(KEY, ask(source("a", ONE), source("b", TWO)))
        gone.answers(7, 500)
        stays.answers(2)
        await sampler.sample(KEY, ask(source("a", ONE), source("b", TWO)))
        await pods.stop(ONE)
        stays.answers(1)
        for sources in ((source("a", ONE), source("b", TWO)), (source("b", TWO),)):
            traffic = (await sampler.sample(KEY, ask(*sources))).traffic["r"]
            assert (traffic.requests, traffic.errors) == (10, 7)


async def test_the_next_pod_at_an_address_is_another(pods: Pods) -> None:
    await pods.start(ONE, first := Server())
    async with pods.sampler() as sampler:
        await sampler.sample(KEY, ask(source("a", ONE)))
        first.answers(4)
        await sampler.sample(KEY, ask(source("a", ONE)))
        await pods.start(ONE, second := Server())
        second.answers(20, 500)
        samples = await sampler.sample(KEY, ask(source("b", ONE, created=NEW)))
    assert (samples.traffic["r"].requests, samples.traffic["r"].errors) == (24, 20)


async def test_a_pod_of_another_revision_at_the_address_is_not_counted(pods: Pods) -> None:
    server = Server()
    server.loads("other")
    server.answers(20, 500)
    await pods.start(ONE, server)
    async with pods.sampler() as sampler:
        samples = await sampler.sample(
            KEY, ask(source("a", ONE, created=NEW), other=source("b", ONE, created=NEW))
        )
    assert {name: traffic.requests for name, traffic in samples.traffic.items()} == {"other": 20}


async def test_a_new_operator_measures_a_shorter_window(pods: Pods) -> None:
    server = Server()
    await pods.start(ONE, server)
    async with pods.sampler() as sampler:
        await sampler.sample(KEY, ask(source("a", ONE)))
        server.answers(30)
    async with pods.sampler() as sampler:
        pods.time = START + timedelta(seconds=60)
        await sampler.sample(KEY, ask(source("a", ONE)))
        server.answers(4)
        pods.time += timedelta(seconds=10)
        samples = await sampler.sample(KEY, ask(source("a", ONE)))
    assert (samples.traffic["r"].requests, samples.seconds) == (4, 10.0)


async def test_a_new_window_begins_at_zero_and_a_forgotten_one_too(pods: Pods) -> None:
    server = Server()
    await pods.start(ONE, server)
    async with pods.sampler() as sampler:
        await sampler.sample(KEY, ask(source("a", ONE)))
        server.answers(9)
        other = Key("vision", "letters")
        await sampler.sample(other, ask(source("a", ONE)))
        later = Ask(since=pods.time, pods={"r": (source("a", ONE),)})
        assert (await sampler.sample(KEY, later)).traffic["r"].requests == 0
        server.answers(2)
        assert (await sampler.sample(KEY, later)).traffic["r"].requests == 2
        sampler.forget(KEY)
        assert (await sampler.sample(KEY, later)).traffic["r"].requests == 0
        assert (await sampler.sample(other, ask(source("a", ONE)))).traffic["r"].requests == 2


async def test_a_clock_that_is_set_back_makes_no_negative_window(pods: Pods) -> None:
    await pods.start(ONE, Server())
    async with pods.sampler() as sampler:
        await sampler.sample(KEY, ask(source("a", ONE)))
        pods.time = START - timedelta(hours=1)
        assert (await sampler.sample(KEY, ask(source("a", ONE)))).seconds == 0.0
