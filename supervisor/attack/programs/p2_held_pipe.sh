# A child that keeps stdout open must not hold the reply back.
setsid sleep 600 &
disown
echo CONTAINED
