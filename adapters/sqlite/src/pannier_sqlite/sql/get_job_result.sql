SELECT status, progress, progress_encoding, result, result_encoding, errors FROM pannier_jobs WHERE tracking_id = ?
