"""The other process of test_package.py: sends back what it gets, by topic, service and action."""

from __future__ import annotations

import rclpy
from rclpy.action import ActionServer
from rclpy.action.server import ServerGoalHandle
from rclpy.executors import ExternalShutdownException

from nano_agent_ros.action import ExecuteAction
from nano_agent_ros.msg import ActionStatus, DefectReport, Reply, RobotAction
from nano_agent_ros.srv import Ask


def answer(request: Ask.Request, response: Ask.Response) -> Ask.Response:
    """Reply with the question's own words and facts."""
    response.success = True
    response.reply = Reply(kind=Reply.ACKNOWLEDGE, text=request.text)
    response.actions = [RobotAction(skill="pick", arguments=request.facts)]
    return response


def execute(goal: ServerGoalHandle) -> ExecuteAction.Result:
    """Half done, then done."""
    status = ActionStatus(action_id=goal.request.action.action_id, state=ActionStatus.RUNNING, progress=0.5)
    goal.publish_feedback(ExecuteAction.Feedback(status=status))
    goal.succeed()
    status = ActionStatus(action_id=goal.request.action.action_id, state=ActionStatus.FINISHED, progress=1.0)
    return ExecuteAction.Result(status=status)


def main() -> None:
    """Spin until terminated."""
    rclpy.init()
    node = rclpy.create_node("echo")
    echoed = node.create_publisher(DefectReport, "echoed", 10)
    node.create_subscription(DefectReport, "echo", echoed.publish, 10)
    node.create_service(Ask, "ask", answer)
    server = ActionServer(node, ExecuteAction, "execute", execute)
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        server.destroy()


if __name__ == "__main__":
    main()
