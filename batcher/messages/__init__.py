"""The API's vocabulary as frozen data: requests, attempts, outcomes, answers, usage. No I/O."""
