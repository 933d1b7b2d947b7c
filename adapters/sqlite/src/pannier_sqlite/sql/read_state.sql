SELECT fence, status, expire_on FROM pannier_jobs WHERE tracking_id = ?
