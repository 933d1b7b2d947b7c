-- $1: tracking ids.
SELECT tracking_id, fence, status, expire_on FROM {schema}.jobs WHERE tracking_id = ANY ($1)
