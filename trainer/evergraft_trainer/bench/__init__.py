"""The benchmark stream: real tasks built from packages, methods at equal samples, results that add up over sittings.

`tasks` builds the data, `methods` says what is compared, `harness` runs it with the product itself, `records` keeps one
small file a task, `report` sums them up. Called by ``evergraft bench stream``; nothing else imports it.
"""
