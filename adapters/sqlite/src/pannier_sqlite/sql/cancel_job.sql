UPDATE pannier_jobs SET status = 'cancelled', finished_at = ? WHERE tracking_id = ? AND finished_at IS NULL
