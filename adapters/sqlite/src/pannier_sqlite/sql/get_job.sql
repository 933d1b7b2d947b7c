SELECT {record} FROM pannier_jobs WHERE tracking_id = ?
