"""The API's vocabulary as frozen data: requests, attempts, outcomes, answers, usage. No I/O.

What is made for every request is a frozen `msgspec.Struct` rather than a frozen dataclass: the
same to read and to use, at a tenth of the cost to make. Their fields hold values only, so no
cycle can start here and the garbage collector is spared (`gc=False`).
"""
