-- wrk asks for one small object after the other, so that connections move between all storage nodes.
local count, number = 1, 0

function init(arguments)
    count = tonumber(arguments[1])
end

function request()
    number = (number + 7) % count
    return wrk.format("GET", "/o/small-" .. number)
end
