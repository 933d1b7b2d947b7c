UPDATE pannier_jobs SET status = 'failed', lapses = 0, finished_at = ?, errors = ? WHERE seq = ?
