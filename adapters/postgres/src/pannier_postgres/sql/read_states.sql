-- $1: tracking ids. Answers with text in their place: the connection may be a caller's, who reads UUIDs in his own way.
SELECT tracking_id::text, fence, status, expire_on FROM {schema}.jobs WHERE tracking_id = ANY ($1)
