"""The contract's value classes, as the rules of level V get them: a saboteur puts a broken one in the place of one."""

from attrs import frozen

from pannier import storage as r


@frozen(kw_only=True)
class Values:
    """The classes whose instances check themselves when they are made."""

    job_record: type[r.JobRecord] = r.JobRecord
    payload: type[r.Payload] = r.Payload
    lease: type[r.Lease] = r.Lease
    job_error: type[r.JobError] = r.JobError
    demand: type[r.Demand] = r.Demand
    claim: type[r.Claim] = r.Claim
    retry: type[r.Retry] = r.Retry
    settlement: type[r.Settlement] = r.Settlement
    stale_jobs: type[r.StaleJobs] = r.StaleJobs
    job_filter: type[r.JobFilter] = r.JobFilter
