#!/bin/sh
# Submit it with: ray job submit --working-dir . -- sh job.sh
exec psctl run --on ray -o cpus=2.0 -o resource=ssd=1 -o 'env=A=b c' --servers 2 --workers 8 --mode ssp --staleness 3 --seed 7 --checkpoint-dir s3://bucket/kept --grace 40.0 -- 'my net.py' --name 'it'"'"'s'
