#!/bin/sh
# A nightly job: codes of the new images only, a Parquet file of all, and the model brought up to date.
#
#   crontab -e:   0 3 * * *   /opt/nightly.sh /data/photos /data/work >> /data/nightly.log 2>&1
set -eu
photos=$1 work=$2
mkdir -p "$work"
set --
[ ! -f "$work/codes.h5" ] || set -- --from "$work/codes.h5" --overwrite
# Exit code 3: done, but some images could not be read; they are listed. A second job at the same time is refused.
cnncodes extract "$photos" -o "$work/codes.h5" --weights starter --quiet "$@" || [ $? = 3 ]
cnncodes export "$work/codes.h5" --to parquet -o "$work/codes.parquet" --overwrite --quiet
cnncodes run "$photos" -o "$work/run" --weights starter --quiet || [ $? = 3 ]
