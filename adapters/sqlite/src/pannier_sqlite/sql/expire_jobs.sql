UPDATE pannier_jobs SET status = 'expired', finished_at = :now WHERE seq IN (SELECT value FROM json_each(:seqs))
