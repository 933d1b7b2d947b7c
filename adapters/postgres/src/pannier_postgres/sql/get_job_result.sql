SELECT {result} FROM {schema}.jobs WHERE tracking_id = $1
